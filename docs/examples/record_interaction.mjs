// Tell Parley about a call that another system made: npm install kafkajs, then
//
//   node record_interaction.mjs localhost:9092 contact-17 call-4711 incoming
import { Kafka, Partitioners } from "kafkajs";

const [servers, contact, call, direction] = process.argv.slice(2);
const topic = process.env.TOPIC ?? "interaction-recorded";

const kafka = new Kafka({ clientId: "my-telephone-system", brokers: servers.split(","), logLevel: 1 });
const producer = kafka.producer({
  idempotent: true,
  maxInFlightRequests: 1,
  createPartitioner: Partitioners.DefaultPartitioner,
});

await producer.connect();
await producer.send({
  topic,
  acks: -1,
  messages: [
    {
      key: contact,
      value: JSON.stringify({
        interaction_id: call,
        interaction_type: "call",
        channel: "voice",
        version: 1,
        contact_id: contact,
        direction,
        occurred_at: new Date().toISOString(),
      }),
      headers: {
        ce_specversion: "1.0",
        ce_id: `call:${call}:1`,
        ce_type: "parley.interaction.recorded.v1",
        ce_source: "my-telephone-system",
        "content-type": "application/json",
      },
    },
  ],
});
await producer.disconnect();
