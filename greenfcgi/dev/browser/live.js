// Live reload: put at the end of each HTML page by the developer mode of greenfcgi, and only there.
// A changed style sheet takes the place of the old one; for any other change the page is loaded again.
(() => {
  const self = document.currentScript;
  let [instance, number] = self.dataset.at.split(":");
  number = Number(number);

  // A change is {instance, number, kind: "style" or "page", path}; of kind "unknown" when the server does not know what
  // this page has missed.
  function take(change) {
    if (change.kind === "unknown" || change.instance !== instance) return reload();
    if (change.number <= number) return;
    number = change.number;
    if (change.kind !== "style" || !restyle(change.path)) reload();
  }

  function reload() {
    // What was posted is not posted again.
    if (self.dataset.method === "GET") location.reload();
    else location.replace(location.href);
  }

  function restyle(path) {
    const sheets = [...document.querySelectorAll('link[rel~="stylesheet"][href]')]
      .filter((link) => new URL(link.href).origin === location.origin);
    const same = sheets.filter((link) => new URL(link.href).pathname === path);
    // One that no link names may be imported by any of them.
    const groups = new Map();
    for (const link of same.length ? same : sheets) {
      const name = new URL(link.href).pathname;
      groups.set(name, [...(groups.get(name) || []), link]);
    }
    // Of each there may be several: those that have not come yet. The last one counts.
    for (const links of groups.values()) {
      const last = links.at(-1);
      const next = last.cloneNode();
      const url = new URL(last.href);
      url.searchParams.set("greenfcgi", `${instance}-${number}`);
      next.href = url;
      next.onload = () => links.forEach((link) => link.remove());
      next.onerror = () => next.remove();
      last.after(next);
    }
    return sheets.length > 0;
  }

  // All tabs share one connection: browsers have few for a server.
  if (window.SharedWorker) {
    const worker = new SharedWorker("/-greenfcgi/worker.js", "greenfcgi");
    worker.port.onmessage = (event) => take(event.data);
    worker.port.postMessage({ instance, number });
    addEventListener("pagehide", () => worker.port.postMessage("bye"));
    // A page that comes back from the browser's cache of pages.
    addEventListener("pageshow", (event) => event.persisted && worker.port.postMessage({ instance, number }));
  } else {
    const source = new EventSource(`/-greenfcgi/events?at=${instance}:${number}`);
    source.onmessage = (event) => take(JSON.parse(event.data));
  }
})();
