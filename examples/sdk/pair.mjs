// Sends transactions with the public JavaScript SDK, writes down every receipt, and checks them again, on the same node or on the
// standby that took its place.
//
//   node pair.mjs setup --url localhost:8081                        chain id and what the node says of itself
//   node pair.mjs send  --url localhost:8081 --count 8 --out r.json  transfers and evidence, EC and SM2, each with its receipt
//   node pair.mjs load  --url localhost:8081 --out r.json            sends until the node is gone; keeps what was acknowledged
//   node pair.mjs check --url localhost:8081 --in r.json [--upto H]  every receipt at or below height H is there, same block hash
//
// Prints one JSON object on the last line; exits 1 when something is missing or different, or when there was nothing to check.
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import jssdk from "@hyperchain/jssdk";
import { ec, receiver, sm2 } from "./accounts.mjs";

const { HttpProvider, ProviderManager, ServiceManager, Transaction } = jssdk;

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string", multiple: true, default: ["localhost:8081"] },
    namespace: { type: "string", default: "global" },
    count: { type: "string", default: "8" },
    seconds: { type: "string", default: "60" },
    out: { type: "string" },
    in: { type: "string" },
    upto: { type: "string" },
  },
});

async function connect() {
  const httpProviders = options.url.map((url, i) => new HttpProvider(i + 1, url));
  const manager = await ProviderManager.createManager({ httpProviders, namespace: options.namespace });
  return {
    manager,
    txs: ServiceManager.getTxService(manager),
    blocks: ServiceManager.getBlockService(manager),
    nodes: ServiceManager.getNodeService(manager),
    contracts: ServiceManager.getContractService(manager),
  };
}

/** The kinds of transaction the example sends, in turn. */
function build(manager, i) {
  const [account, algo] = i % 2 === 0 ? [ec, "EC"] : [sm2, "SM2"];
  const builder = new Transaction.Builder(account.getAddress(), manager).transfer(receiver, i % 3);
  const evidence = i % 4 >= 2;
  if (evidence) builder.extra(`evidence ${i} & käse = 存证`);
  const transaction = builder.build();
  transaction.sign(account);
  return { transaction, kind: `${algo} ${evidence ? "evidence" : "transfer"}` };
}

async function sendOne(sdk, i) {
  const { transaction, kind } = build(sdk.manager, i);
  const answer = await sdk.txs.sendTx(transaction).send();
  const receipt = (await answer.poll(20)).result;
  const tx = (await sdk.txs.getTxByHash(receipt.txHash).send()).result;
  return { hash: receipt.txHash, height: Number(BigInt(tx.blockNumber)), block: tx.blockHash, kind };
}

function read(file) {
  return readFileSync(file, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

/** Sends the BVM operation that the SDK's users begin with; a chain id that is set already is fine. */
async function setup() {
  const sdk = await connect();
  const transaction = new Transaction.BVMBuilder(sm2.getAddress(), sdk.manager)
    .invoke("0x0000000000000000000000000000000000ffff06", "SetChainID", ["hhppcc"])
    .build();
  transaction.sign(sm2);
  const receipt = (await (await sdk.contracts.invoke(transaction).send()).poll(20)).result;
  const answer = JSON.parse(Buffer.from(receipt.ret.slice(2), "hex").toString());
  const nodes = (await sdk.nodes.getNodes().send()).result;
  const height = (await sdk.blocks.getChainHeight().send()).result;
  return { version: sdk.manager.getTxVersion(), setChainId: answer.Success, nodes: nodes.length, height: Number(BigInt(height)) };
}

async function send() {
  const sdk = await connect();
  const count = Number(options.count);
  const receipts = [];
  for (let i = 0; i < count; i += 1) {
    const receipt = await sendOne(sdk, i);
    receipts.push(receipt);
    if (options.out) appendFileSync(options.out, `${JSON.stringify(receipt)}\n`);
    console.log(`${receipt.kind.padEnd(12)} block ${String(receipt.height).padStart(4)}  ${receipt.hash}`);
  }
  return { sent: receipts.length, height: Math.max(...receipts.map((r) => r.height)) };
}

/** Keeps eight senders busy until the node does not answer any more; one acknowledged receipt a line. */
async function load() {
  const sdk = await connect();
  const until = Date.now() + Number(options.seconds) * 1000;
  let [next, kept, gone] = [0, 0, ""];
  if (options.out && !existsSync(options.out)) writeFileSync(options.out, "");
  const sender = async () => {
    while (Date.now() < until && !gone) {
      try {
        const receipt = await sendOne(sdk, (next += 1));
        if (options.out) appendFileSync(options.out, `${JSON.stringify(receipt)}\n`);
        kept += 1;
      } catch (error) {
        gone = String(error?.message ?? error);
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, sender));
  return { acknowledged: kept, stopped: gone || "time is up" };
}

async function check() {
  const sdk = await connect();
  const upto = options.upto === undefined ? Infinity : Number(options.upto);
  const [wrong, due] = [[], read(options.in).filter((r) => r.height <= upto)];
  for (const expected of due) {
    try {
      const receipt = (await sdk.txs.getTransactionReceipt(expected.hash).send()).result;
      const tx = (await sdk.txs.getTxByHash(expected.hash).send()).result;
      const block = (await sdk.blocks.getBlockByNum(String(expected.height), true).send()).result;
      const same = receipt.txHash === expected.hash && tx.blockHash === expected.block && block.hash === expected.block;
      if (!same) wrong.push({ expected, found: { block: tx.blockHash, byNumber: block.hash } });
    } catch (error) {
      wrong.push({ expected, error: String(error?.message ?? error) });
    }
  }
  // Nothing to check proves nothing.
  if (wrong.length > 0 || due.length === 0) process.exitCode = 1;
  return { checked: due.length, wrong };
}

const actions = { setup, send, load, check };
const action = actions[positionals[0]];
if (!action) {
  console.error(`Error: unknown action ${positionals[0] ?? "(none)"}; use one of ${Object.keys(actions).join(", ")}`);
  process.exit(2);
}
try {
  console.log(JSON.stringify(await action()));
} catch (error) {
  console.error(`Error: ${error?.message ?? JSON.stringify(error)}; is a node answering at ${options.url.join(", ")}?`);
  process.exit(1);
}
process.exit();
