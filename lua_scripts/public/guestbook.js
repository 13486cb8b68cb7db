// What the guestbook does more with JavaScript: likes and older entries without another page, new ones by themselves.
// What people have written gets into the page as text only (textContent), never as HTML.
"use strict";

const { base, csrf, user } = document.body.dataset;
const entries = document.querySelector("#entries");
const older = document.querySelector("#older");

function localize(time) {
  const date = new Date(time.dateTime);
  time.textContent = date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

// An element of an entry as the API gives it, made of the page's <template>.
function elementOf(entry) {
  const element = document.querySelector("template#entry").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  element.id = `entry-${entry.id}`;
  find(".avatar").className = `avatar tone-${entry.tone}`;
  find(".avatar").textContent = entry.author[0].toUpperCase();
  find(".author").textContent = entry.author;
  find(".text").textContent = entry.text;
  find(".likes").textContent = entry.likes;
  find("time").dateTime = entry.time;
  localize(find("time"));
  find("[aria-pressed]")?.setAttribute("aria-pressed", entry.liked);
  for (const form of element.querySelectorAll("form")) {
    form.action = `${base}/entries/${entry.id}/${form.className}`;
  }
  if (entry.author !== user) find(".delete")?.remove();
  if (entry.photo) {
    Object.assign(find(".photo"), { ...entry.photo, alt: `Photo by ${entry.author}`, src: `${base}/photos/${entry.id}` });
  } else {
    find(".photo").remove();
  }
  return element;
}

function say(text) {
  document.querySelector("#news").textContent = text;
}

async function like(form) {
  const button = form.querySelector("button");
  const reply = await fetch(`${base}/api${new URL(form.action).pathname.slice(base.length)}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify({ liked: button.getAttribute("aria-pressed") !== "true" }),
  });
  const { liked, likes, error } = await reply.json();
  if (error) return say(error);
  button.setAttribute("aria-pressed", liked);
  form.querySelector(".likes").textContent = likes;
}

async function showOlder() {
  const reply = await fetch(`${base}/api/entries${new URL(older.href).search}`);
  const found = await reply.json();
  entries.append(...found.entries.map(elementOf));
  say(`${found.entries.length} older entries`);
  if (found.next) older.search = `?before=${found.next}`;
  else older.remove();
}

// On the first page, what is new comes to the top.
function listen() {
  const source = new EventSource(`${base}/live?after=${entries.dataset.last}`);
  source.onmessage = (event) => {
    const entry = JSON.parse(event.data);
    if (document.querySelector(`#entry-${entry.id}`)) return;
    document.querySelector("#empty")?.remove();
    const element = elementOf(entry);
    element.classList.add("new");
    entries.prepend(element);
    say(`New entry by ${entry.author}`);
  };
}

// A photo is made small before it is sent: those of phones have several megabytes, and scripts.max_post is one.
async function shrink(input) {
  const photo = input.files[0];
  if (!photo || photo.size < 300_000) return;
  const bitmap = await createImageBitmap(photo);
  const scale = Math.min(1, 1600 / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
  const files = new DataTransfer();
  files.items.add(new File([blob], "photo.jpg", { type: "image/jpeg" }));
  input.files = files.files;
}

if (entries) {
  document.querySelectorAll("time").forEach(localize);
  entries.addEventListener("submit", (event) => {
    if (!event.target.matches(".like")) return;
    event.preventDefault();
    like(event.target).catch(() => say("The server does not answer."));
  });
  older?.addEventListener("click", (event) => {
    event.preventDefault();
    showOlder().catch(() => location.assign(older.href));
  });
  document.querySelector("input[type=file]")?.addEventListener("change", (event) => shrink(event.target).catch(() => {}));
  if (!location.search) listen();
}
