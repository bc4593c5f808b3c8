# One image for all services, the carrier and the command line; `command` says which one a container is.
# They share nearly all of their packages, so one image is pulled, scanned and patched once, and every process
# of a deployment is of the same version for certain.
#
# A package index of your own: give the build a pip.conf as the secret `pip`
# (docker build --secret id=pip,src=pip.conf .); it is in no layer.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/parley
COPY requirements.lock /build/
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/parley/bin/python install --require-hashes --only-binary=:all: -r /build/requirements.lock

FROM ${PYTHON_IMAGE} AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements-build.lock /build/
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --require-hashes --only-binary=:all: -r /build/requirements-build.lock
COPY shared /build/shared
COPY services /build/services
COPY simulators /build/simulators
COPY cli /build/cli
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels \
    /build/shared/* /build/services/* /build/simulators/* /build/cli

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/parley/bin:$PATH PYTHONUNBUFFERED=1
RUN install -d -o 10001 -g 10001 /var/lib/parley /var/lib/parley/carrier /var/lib/parley/clock
COPY --from=packages /opt/parley /opt/parley
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip --python /opt/parley/bin/python install --no-cache-dir --no-deps --no-index \
    --disable-pip-version-check --root-user-action=ignore --quiet /wheels/*.whl
USER 10001:10001
WORKDIR /var/lib/parley
STOPSIGNAL SIGTERM
CMD ["parley", "--help"]
