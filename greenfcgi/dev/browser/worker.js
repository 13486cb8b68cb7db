// Listens for all tabs of a browser, and passes each the changes that it has not seen. See live.js.
const ports = new Set();
let known = [];
let source = null;
let at = null;

function listen() {
  if (source) source.close();
  source = new EventSource(`/-greenfcgi/events?at=${at.instance}:${at.number}`);
  source.onmessage = (event) => {
    const change = JSON.parse(event.data);
    if (change.instance !== at.instance || change.kind === "unknown") known = [];
    else known.push(change);
    at = { instance: change.instance, number: change.number };
    for (const port of ports) port.postMessage(change);
  };
  // A server that is being started again answers with errors, or not at all; browsers give up on some of these.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 300);
  };
}

function greet(port, page) {
  ports.add(port);
  if (at === null) {
    at = page;
    listen();
  } else if (page.instance < at.instance) {
    // A page of a server that was ended before: instances are times.
    port.postMessage({ kind: "unknown" });
  } else if (page.instance > at.instance) {
    at = page;
    known = [];
    listen();
    for (const other of ports) if (other !== port) other.postMessage({ kind: "unknown" });
  } else {
    for (const change of known) if (change.number > page.number) port.postMessage(change);
  }
}

onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => (data === "bye" ? ports.delete(port) : greet(port, data));
};
