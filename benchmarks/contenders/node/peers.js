// The peers of Node. `node peers.js PEER fill` takes bodies from standard input, one a line, and commits them;
// `node peers.js PEER work` is one of two processes that deliver them with undici until they are killed.
import { createInterface } from "node:readline";
import { Agent, request } from "undici";

const { BENCH_DATABASE, BENCH_BROKER, BENCH_SINK, BENCH_HEADERS, BENCH_JOBS, BENCH_BATCH } = process.env;
const [peer, task] = process.argv.slice(2);
const jobs = Number(BENCH_JOBS);
const batch = Number(BENCH_BATCH);

const connections = new Agent({ connections: 500 });
const headers = JSON.parse(BENCH_HEADERS ?? "{}");

async function send(event) {
  const options = { method: "POST", headers, body: JSON.stringify(event), dispatcher: connections };
  const answer = await request(BENCH_SINK, options);
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
  return (await answer.body.json()).event_uuid;
}

const peers = {
  // In its batch mode, which is off by default: jobs are fetched and completed many at a time.
  "graphile-worker": async () => {
    const { Logger, makeWorkerUtils, run } = await import("graphile-worker");
    const { default: pg } = await import("pg");
    const logger = new Logger(() => () => {});
    return {
      async fill(events) {
        const utils = await makeWorkerUtils({ connectionString: BENCH_DATABASE, logger });
        await utils.migrate();
        for (const some of inThousands(events)) {
          await utils.addJobs(some.map((payload) => ({ identifier: "send", payload })));
        }
        await utils.release();
      },
      async work() {
        const pgPool = new pg.Pool({ connectionString: BENCH_DATABASE, max: 12 });
        pgPool.on("error", console.error);
        pgPool.on("connect", (client) => client.on("error", console.error));
        const worker = {
          connectionString: BENCH_DATABASE,
          concurrentJobs: jobs,
          maxPoolSize: 12,
          localQueue: { size: batch },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        };
        await run({ preset: { worker }, pgPool, logger, taskList: { send } });
      },
    };
  },

  // It polls, twice a second at best: the batch makes up for that.
  "pg-boss": async () => {
    const { default: PgBoss } = await import("pg-boss");
    const boss = new PgBoss(BENCH_DATABASE);
    boss.on("error", console.error);
    await boss.start();
    return {
      async fill(events) {
        await boss.createQueue("send");
        for (const some of inThousands(events)) {
          await boss.insert(some.map((data) => ({ name: "send", data })));
        }
        await boss.stop({ graceful: false });
      },
      async work() {
        const options = { batchSize: batch, pollingIntervalSeconds: 0.5 };
        for (let number = 0; number < jobs; number++) {
          await boss.work("send", options, (some) => Promise.all(some.map((job) => send(job.data))));
        }
      },
    };
  },

  bullmq: async () => {
    const { Queue, Worker } = await import("bullmq");
    const { hostname: host, port } = new URL(BENCH_BROKER);
    const connection = { host, port: Number(port), maxRetriesPerRequest: null };
    return {
      async fill(events) {
        const queue = new Queue("send", { connection, defaultJobOptions: { removeOnComplete: true } });
        for (const some of inThousands(events)) {
          await queue.addBulk(some.map((data) => ({ name: "send", data })));
        }
        await queue.close();
      },
      async work() {
        const worker = new Worker("send", (job) => send(job.data), { connection, concurrency: jobs });
        worker.on("error", console.error);
      },
    };
  },
};

function* inThousands(events) {
  for (let start = 0; start < events.length; start += 1000) yield events.slice(start, start + 1000);
}

const chosen = await peers[peer]();
if (task === "fill") {
  const events = [];
  for await (const line of createInterface({ input: process.stdin })) events.push(JSON.parse(line));
  await chosen.fill(events);
  process.exit(0);
}
await chosen.work();
