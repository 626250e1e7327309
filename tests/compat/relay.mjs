// A byte relay in front of the broker that counts a client's connections and requests. It acknowledges bytes itself,
// so the broker cannot prove a delivery through it.
import { connect, createServer } from "node:net";

export class CountingRelay {
  connections = 0;
  requests = 0;
  #server;
  #sockets = new Set();

  static async start(addr) {
    const [host, port] = addr.split(":");
    const self = new CountingRelay();
    self.#server = createServer({ allowHalfOpen: true }, (client) => {
      self.connections += 1;
      const broker = connect({ host, port: Number(port), allowHalfOpen: true });
      for (const [from, to] of [[client, broker], [broker, client]]) {
        self.#sockets.add(from);
        from.on("error", () => to.destroy());
        from.on("close", () => self.#sockets.delete(from));
        from.pipe(to);
      }
      client.on("data", (chunk) => {
        self.requests += chunk.toString("latin1").match(/^(GET|POST) \//gm)?.length ?? 0;
      });
    });
    await new Promise((done) => self.#server.listen(0, "127.0.0.1", done));
    self.url = `http://127.0.0.1:${self.#server.address().port}`;
    return self;
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }
}
