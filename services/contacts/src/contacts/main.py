"""The contacts service, composed."""

from __future__ import annotations

from contacts import subscribers
from contacts.adapters import mongo_contacts, mongo_imports
from contacts.adapters.mongo_contacts import (
    MongoContacts,
    MongoContactTypes,
    MongoHandledUpserts,
    MongoLedger,
)
from contacts.adapters.mongo_imports import MongoImports
from contacts.domain.commands import HANDLED, decide
from contacts.domain.consent import LEDGER
from contacts.domain.contact import Contact
from contacts.domain.contact_type import ContactType
from contacts.domain.importing import Import
from contacts.http import contact_types as contact_type_routes
from contacts.http import contacts as contact_routes
from contacts.http import imports as import_routes
from contacts.settings import Settings
from contacts.use_cases.change_contacts import (
    CreateContact,
    EraseContact,
    ReviseContact,
    SetContactPreference,
)
from contacts.use_cases.define_contact_type import DefineContactType
from contacts.use_cases.forget_rejects import ForgetRejects
from contacts.use_cases.receive_import import ReceiveImport
from contacts.use_cases.run_imports import RunImports
from contracts.asyncapi import asyncapi_document
from contracts.catalogue import topics_of
from contracts.contacts import SetPreference, UpsertContact
from servicekit import lookouts
from servicekit.leases import Leases
from servicekit.lookouts import Lookouts
from servicekit.service import Service, run_service

ERASURES = "erasures"
_COMMANDS: tuple[type[SetPreference | UpsertContact], ...] = (SetPreference, UpsertContact)


def build(settings: Settings) -> Service:
    service = Service("contacts", settings)
    clock, mongo, committer = service.clock, service.mongo, service.committer

    contact_store = service.store("contacts", Contact, "contact_id", mongo_contacts.CONTACT_INDEXES)
    type_store = service.store("contact_types", ContactType, "code")
    import_store = service.store(mongo_imports.IMPORTS, Import, "import_id", mongo_imports.IMPORT_INDEXES)
    service.indexes(LEDGER, mongo_contacts.LEDGER_INDEXES)
    service.indexes(HANDLED, ())
    service.indexes(mongo_imports.CHUNKS, mongo_imports.CHUNK_INDEXES, mongo_imports.RETIRED)
    service.indexes(mongo_imports.SEEN, mongo_imports.SEEN_INDEXES)
    service.indexes(mongo_imports.REJECTS, mongo_imports.reject_indexes(settings.contacts_rejects_days))
    service.indexes(ERASURES, lookouts.INDEXES)

    contacts = MongoContacts(mongo, contact_store)
    types = MongoContactTypes(type_store)
    ledger = MongoLedger(mongo)
    imports = MongoImports(mongo, import_store)
    contact_commands = service.commands(contact_store)

    service.subscribe(
        "obey-contact-commands",
        _COMMANDS,
        service.unit_of_work(
            "obey-contact-commands",
            contact_store,
            aggregate_id=lambda command: command.contact_id,
            decide=decide,
            facts=subscribers.known_for_commands(contacts, types, ledger, MongoHandledUpserts(mongo), clock),
        ),
    )

    receive = ReceiveImport(imports, types, committer, clock, settings.contacts_import_max_mb << 20)
    leases = Leases(mongo, "imports", settings.instance, settings.lease_seconds)
    worker = RunImports(
        imports,
        contacts,
        contact_store,
        types,
        committer,
        leases,
        clock,
        settings.contacts_import_batch,
        service.stopping,
    )
    service.background("imports", worker.run)

    erasures = Lookouts(mongo[ERASURES])
    forget_rejects = ForgetRejects(
        erasures, imports, contacts, Leases(mongo, "forget", settings.instance, settings.lease_seconds)
    )
    service.background("forget", lambda: forget_rejects.run(service.stopping))
    service.counted_gauge(
        "parley_erasures_due", "People who were erased and wait to be forgotten", erasures.count_due
    )

    service.routes(
        contact_type_routes.routes(types, DefineContactType(service.commands(type_store))),
        contact_routes.routes(
            contacts,
            ledger,
            CreateContact(contact_commands, contacts, types, clock),
            ReviseContact(contact_commands, contacts, types, clock),
            SetContactPreference(contact_commands, types, ledger, clock),
            EraseContact(contact_commands, ledger, forget_rejects, service.outbox, clock),
        ),
        import_routes.routes(imports, receive, worker),
        streamed=[import_routes.PATH],
    )
    service.asyncapi = asyncapi_document("contacts")
    service.requires_topics(topics_of("contacts"))
    return service


def run() -> None:
    run_service("contacts", Settings, build)
