// The echo server that Autobahn's cases run against: node autobahn_echo.js PORT
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: +process.argv[2],
  perMessageDeflate: true,
  maxPayload: 64 << 20,
});
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  // What a case breaks on purpose.
  socket.on("error", () => {});
});
