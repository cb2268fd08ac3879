// A page and its echo: node browser_target.js PORT. Counts the sockets that reached it, on /counts.
const http = require("http");
const { WebSocketServer } = require("ws");

const page = `<!doctype html><title>sockets</title><script>
// Opens a socket, sends texts and bytes, and closes it with a code and a reason of its own.
function talk(number) {
  return new Promise((done) => {
    const socket = new WebSocket(location.origin.replace("https:", "wss:") + "/ws?" + number, ["other", "echo"]);
    const found = { protocol: null, right: 0, error: false };
    const messages = Array.from({ length: 100 }, (_, at) => "message " + at + " ".repeat(at * 20));
    const bytes = new Uint8Array(300000).map((_, at) => at % 251);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      found.protocol = socket.protocol;
      messages.forEach((message) => socket.send(message));
      socket.send(bytes);
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") found.right += data === messages[found.right];
      else {
        const back = new Uint8Array(data);
        found.bytes = back.length === bytes.length && back.every((byte, at) => byte === bytes[at]);
        socket.close(4001, "thank you");
      }
    };
    socket.onerror = () => (found.error = true);
    socket.onclose = ({ code, reason, wasClean }) => done({ ...found, code, reason, wasClean });
  });
}
</script>`;

let sockets = 0;
let closes = {};
const server = http.createServer((request, response) => {
  if (request.url === "/counts") response.end(JSON.stringify({ sockets, closes }));
  else response.setHeader("Content-Type", "text/html").end(page);
});
const echo = new WebSocketServer({ server, handleProtocols: (offered) => (offered.has("echo") ? "echo" : false) });
echo.on("connection", (socket) => {
  sockets += 1;
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("close", (code, reason) => {
    const how = `${code} ${reason}`;
    closes[how] = (closes[how] || 0) + 1;
  });
});
server.listen(+process.argv[2], "127.0.0.1");
