// A ccm session over one stream: tell what happened, get the next action.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

// target: HOST:PORT of a `ccm serve`; proto: path of adaptation.proto.
export function connect(target, proto) {
  const definition = loader.loadSync(proto, { longs: Number, enums: String, defaults: true, oneofs: true });
  const { Adaptation } = grpc.loadPackageDefinition(definition).ccm_runtime.v1;
  return new Adaptation(target, grpc.credentials.createInsecure());
}

export class Session {
  constructor(client) {
    this.stream = client.Session();
    this.responses = this.stream[Symbol.asyncIterator]();
    this.sequence = 0;
  }

  // options: fields of OpenSessionRequest, e.g. { seed: 7 }. Returns OpenSessionResponse: id, token, agent.
  async open(options = {}) {
    return (await this.#ask({ open: options })).opened;
  }

  // Returns Answer: action, phase, episode, certainty, ...
  async beginEpisode(observation) {
    return this.#tell({ beginEpisode: { observation } });
  }

  // transition: { observation, reward, terminated, truncated }. Returns Answer; episodeOver says when to begin anew.
  async act(transition) {
    return this.#tell({ transition });
  }

  // Returns CloseSessionResponse: the server's own count of the returns, and what it knew of the task.
  async close() {
    const { closed } = await this.#ask({ close: {} });
    this.stream.end();
    return closed;
  }

  async #tell(event) {
    const { answer } = await this.#ask({ event: { sequence: this.sequence + 1, ...event } });
    this.sequence = answer.sequence; // only an answered event has a number; a refused one may be mended and sent again
    return answer;
  }

  async #ask(request) {
    this.stream.write(request);
    const { value, done } = await this.responses.next();
    if (done) throw new Error("the server ended the stream");
    if (value.kind === "error") throw new Error(`event ${value.error.sequence} was refused: ${value.error.message}`);
    return value;
  }
}
