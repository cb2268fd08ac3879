// A socket.io server as mmqueue's: node socketio_server.js NAME ADDRESS PORT HEALTH_PORT PATH
// Echoes with its name. Its health port answers /ping, and on /counts what went wrong on the traffic port.
const http = require("http");
const { Server } = require("socket.io");

const [name, address, port, healthPort, path] = process.argv.slice(2);
const counts = { sessions: 0, upgrades: 0, refused: {} };

const server = http.createServer((request, response) => {
  response.writeHead(request.url === "/ping" ? 200 : 404).end(name);
});
const io = new Server(server, { path, pingInterval: 2000, pingTimeout: 2000, maxHttpBufferSize: 1 << 20 });
io.engine.on("connection", (session) => {
  counts.sessions += 1;
  session.on("upgrade", () => (counts.upgrades += 1));
});
io.engine.on("connection_error", (error) => {
  counts.refused[error.message] = (counts.refused[error.message] || 0) + 1;
});
io.on("connection", (socket) => {
  socket.emit("server", name);
  socket.on("echo", (text, answer) => answer(name, text));
});
server.listen(+port, address);

http
  .createServer((request, response) => {
    if (request.url === "/ping") response.end("pong");
    else response.end(JSON.stringify(counts));
  })
  .listen(+healthPort, address);
