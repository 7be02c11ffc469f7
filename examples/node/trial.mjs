// Run one whole trial and print the return of each episode as JSON.
//   node trial.mjs [--server 127.0.0.1:7070] [--proto FILE] [--angle RADIANS] [--seed N]
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { HardPointRobotAligned } from "./hard_point_robot.mjs";
import { Session, connect } from "./session.mjs";

const { values: flags } = parseArgs({
  options: {
    server: { type: "string", default: "127.0.0.1:7070" },
    proto: {
      type: "string",
      default: fileURLToPath(new URL("../../proto/ccm_runtime/v1/adaptation.proto", import.meta.url)),
    },
    angle: { type: "string", default: "1.0" },
    seed: { type: "string", default: "0" },
  },
});

async function runTrial(session, agent, env) {
  const episodes = [];
  for (let episode = 0; episode < agent.episodes; episode++) {
    let answer = await session.beginEpisode(env.reset());
    const phase = answer.phase;
    let total = 0;
    while (!answer.episodeOver) {
      const transition = env.step(answer.action);
      total += transition.reward;
      answer = await session.act(transition);
    }
    episodes.push({ phase, return: total, certainty: answer.certainty });
  }
  return episodes;
}

const client = connect(flags.server, flags.proto);
try {
  const session = new Session(client);
  const { agent } = await session.open({ seed: Number(flags.seed), expectedObservationSize: 2, expectedActionSize: 2 });
  const angle = Number(flags.angle);
  const episodes = await runTrial(session, agent, new HardPointRobotAligned(angle));
  const closed = await session.close();
  const returns = episodes.map((episode) => episode.return);
  console.log(
    JSON.stringify({ agent: agent.agentId, family: agent.family, angle, returns, episodes, closed: closed.returns }),
  );
} catch (error) {
  console.error(`trial: error: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
