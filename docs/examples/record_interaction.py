"""Tell Parley about a call that another system made: pip install aiokafka, then

python record_interaction.py localhost:9092 contact-17 call-4711 incoming
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

TOPIC = os.environ.get("TOPIC", "interaction-recorded")


async def main(servers: str, contact: str, call: str, direction: str) -> None:
    interaction = {
        "interaction_id": call,
        "interaction_type": "call",
        "channel": "voice",
        "version": 1,
        "contact_id": contact,
        "direction": direction,
        "occurred_at": datetime.now(UTC).isoformat(),
    }
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(
            TOPIC,
            key=contact.encode(),
            value=json.dumps(interaction).encode(),
            headers=[
                ("ce_specversion", b"1.0"),
                ("ce_id", f"call:{call}:1".encode()),
                ("ce_type", b"parley.interaction.recorded.v1"),
                ("ce_source", b"my-telephone-system"),
                ("content-type", b"application/json"),
            ],
        )
    finally:
        await producer.stop()


asyncio.run(main(*sys.argv[1:]))
