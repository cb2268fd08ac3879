// Many socket.io clients, each with a cookie jar that outlives its connections, as in a browser:
// node socketio_clients.js URL PATH. Takes one command a line and answers each with a line of JSON.
const fs = require("fs");
const readline = require("readline");
const { io } = require("socket.io-client");
const { NodeXHR, NodeWebSocket } = require("engine.io-client");

const [url, path] = process.argv.slice(2);
const ca = process.env.CA ? fs.readFileSync(process.env.CA) : undefined;
let clients = [];

class Client {
  constructor(reconnection) {
    this.server = null;
    this.drops = 0;
    this.errors = [];
    let jar = null;
    // socket.io makes a new jar for each connection; a browser has one.
    const keeping = (Transport) =>
      class extends Transport {
        constructor(options) {
          options.socket._cookieJar = jar ??= options.socket._cookieJar;
          super(options);
        }
      };
    this.cookies = () => (jar ? [...jar.cookies].map(([name]) => name) : []);
    this.socket = io(url, {
      path,
      ca,
      withCredentials: true,
      forceNew: true,
      transports: [keeping(NodeXHR), keeping(NodeWebSocket)],
      reconnection,
      reconnectionDelay: 200,
      reconnectionDelayMax: 1000,
      timeout: 10000,
    });
    this.socket.on("server", (name) => (this.server = name));
    this.socket.on("connect_error", (error) => this.failed(error));
    this.socket.on("disconnect", (reason, details) => {
      this.server = null;
      this.drops += 1;
      this.failed(details || reason);
    });
  }

  failed(error) {
    const answer = error.context?.responseText || error.context?.status || "";
    const what = [error.description, error.message, error].find((word) => typeof word === "string");
    this.errors.push(`${what || "?"} ${answer}`.trim());
  }

  upgraded() {
    return this.socket.connected && this.socket.io.engine.transport.name === "websocket";
  }

  // Each message is a little longer than the one before; the last ones do not fit one frame's short length.
  async echo(count) {
    let right = 0;
    for (let number = 0; number < count; number++) {
      const text = `${number} `.repeat(1 + number * 40);
      try {
        const [server, back] = await new Promise((take, refuse) =>
          this.socket.timeout(10000).emit("echo", text, (error, ...answer) => (error ? refuse(error) : take(answer))),
        );
        right += server === this.server && back === text;
      } catch (error) {
        this.failed(error);
      }
    }
    return right;
  }
}

async function until(holds, seconds) {
  const end = Date.now() + seconds * 1000;
  while (!holds() && Date.now() < end) await new Promise((go) => setTimeout(go, 50));
  return holds();
}

const commands = {
  // Begins with `count` fresh clients; waits until all are upgraded, or have failed, or time is over.
  async connect(count, seconds, reconnection) {
    clients.forEach((client) => client.socket.disconnect());
    clients = Array.from({ length: count }, () => new Client(reconnection));
    const settled = (client) => (client.upgraded() && client.server) || (!reconnection && client.errors.length);
    await until(() => clients.every(settled), seconds);
    return commands.state();
  },
  // Waits until every client is connected by WebSocket and knows its server.
  async settle(seconds) {
    await until(() => clients.every((client) => client.upgraded() && client.server), seconds);
    return commands.state();
  },
  // Every client drops its connection and comes back with the cookies it has.
  async again() {
    clients.forEach((client) => client.socket.disconnect());
    clients.forEach((client) => {
      client.server = null;
      client.drops = 0;
      client.errors = [];
      client.socket.connect();
    });
    return {};
  },
  async forget() {
    clients.forEach((client) => ((client.drops = 0), (client.errors = [])));
    return {};
  },
  async echo(count) {
    const right = await Promise.all(clients.map((client) => client.echo(count)));
    return { right: right.reduce((sum, one) => sum + one, 0) };
  },
  async state() {
    return clients.map((client) => ({
      server: client.server,
      drops: client.drops,
      errors: client.errors,
      connected: client.socket.connected,
      upgraded: client.upgraded(),
      cookies: client.cookies(),
    }));
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const [name, ...words] = JSON.parse(line);
  console.log(JSON.stringify(await commands[name](...words)));
});
