// All of our JavaScript: pages work without it. It keeps what is shown up to date in place, sends forms
// without losing one's place, and moves through the inbox by keyboard.
"use strict";

// --- in place: make the page that is here like the one that came, keeping focus, selection and what is open

const keyOf = (node) => node.nodeType === 1 && (node.id || node.dataset.key) || null;
const isTyped = (node) => node.matches("input:not([type=hidden]), textarea, select");

function isChanged(field) {
  if (field === document.activeElement) return true;
  if (field.nodeName === "SELECT") return [...field.options].some((one) => one.selected !== one.defaultSelected);
  return field.value !== field.defaultValue || field.checked !== field.defaultChecked;
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

function become(here, came) {
  if (here.nodeType !== 1) {
    if (here.data !== came.data) here.data = came.data;
    return;
  }
  for (const { name } of [...here.attributes]) {
    if (!came.hasAttribute(name) && !(name === "open" && here.nodeName === "DETAILS") && name !== "tabindex") here.removeAttribute(name);
  }
  for (const { name, value } of came.attributes) {
    if (here.getAttribute(name) !== value && name !== "open") here.setAttribute(name, value);
  }
  if (isTyped(here) && isChanged(here)) return; // what somebody types or has chosen is theirs
  become.children(here, came);
}

become.children = (here, came) => {
  const keyed = new Map([...here.childNodes].map((node) => [keyOf(node), node]).filter(([key]) => key));
  let place = here.firstChild;
  for (const wanted of [...came.childNodes]) {
    const key = keyOf(wanted);
    let found = key ? keyed.get(key) : place;
    while (!key && found && !alike(found, wanted)) found = keyOf(found) ? null : found.nextSibling;
    if (found && alike(found, wanted)) {
      if (found === place) place = place.nextSibling;
      else if (key) here.insertBefore(found, place);
      else { while (place !== found) place = drop(place); place = found.nextSibling; }
      become(found, wanted);
    } else {
      const made = document.importNode(wanted, true);
      if (made.nodeType === 1) made.classList.add("fresh");
      here.insertBefore(made, place);
    }
  }
  while (place) place = drop(place);
};

function drop(node) {
  const next = node.nextSibling;
  if (node.contains(document.activeElement)) {
    const near = [node.nextElementSibling, node.previousElementSibling].find((one) => one?.tabIndex >= 0);
    (near || document.getElementById("main")).focus({ preventScroll: true });
  }
  node.remove();
  return next;
}

function show(text) {
  const came = new DOMParser().parseFromString(text, "text/html");
  if (!came.getElementById("main")) return false;
  document.title = came.title;
  for (const part of ["top", "main"]) {
    const here = document.getElementById(part), there = came.getElementById(part);
    if (here && there) become(here, there);
  }
  return true;
}

// --- what changed: the server says when, and the page is fetched again or comes along

let source = null, isAsking = false, isDue = false, answered = 0;

async function look() {
  if (isAsking) { isDue = true; return; }
  isAsking = true;
  const before = answered;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const text = await answer.text();
    if (before !== answered) isDue = true; // a form was sent meanwhile: this may be what was here before
    else if (answer.ok) show(text);
    else if (answer.status === 401) location.reload();
  } catch { /* the stream comes back by itself, and says so again */ }
  isAsking = false;
  if (isDue) { isDue = false; look(); }
}

function listen() {
  const stream = document.body.dataset.live;
  const wanted = stream && document.visibilityState === "visible";
  if (wanted && !source) {
    source = new EventSource(stream);
    source.addEventListener("changed", look);
    source.addEventListener("page", (event) => { // it comes along, and is what we have from now on
      show(JSON.parse(event.data));
      document.body.dataset.live = stream.replace(/^\/live\/[^/]*/, `/live/${event.lastEventId}`);
    });
    source.addEventListener("error", () => { if (source?.readyState === EventSource.CLOSED) look(); }); // signed out, say
  } else if (!wanted && source) { // a browser has six connections to a server: hidden pages keep none
    source.close();
    source = null;
  }
}

document.addEventListener("visibilitychange", listen);
addEventListener("pagehide", () => { source?.close(); source = null; });
addEventListener("pageshow", listen);

// --- forms: sent from where one is, and shown there

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-here]") || form.dataset.busy) { if (form.dataset.busy) event.preventDefault(); return; }
  event.preventDefault();
  form.dataset.busy = "yes";
  const body = new URLSearchParams(new FormData(form, event.submitter));
  try {
    const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
    const ask = form.closest("details.ask");
    if (ask?.contains(document.activeElement)) ask.querySelector("summary").focus({ preventScroll: true }); // it is about to be hidden
    ask?.removeAttribute("open");
    const text = await answer.text();
    answered += 1;
    if (show(text)) {
      history.replaceState(null, "", answer.ok ? answer.url : location.href);
      say(document.querySelector(".flash")?.textContent);
    } else location.reload();
  } catch {
    form.submit();
  }
  delete form.dataset.busy;
});

// --- a form with a preview: what it comes to is beside it while one types

let typed = 0;

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-preview]");
  if (!form) return;
  clearTimeout(typed);
  const mine = typed = setTimeout(async () => {
    const body = new URLSearchParams(new FormData(form));
    body.set("preview", "1");
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
      const came = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("preview");
      if (came && mine === typed) become(document.getElementById("preview"), came);
    } catch { /* the button does the same */ }
  }, 300);
});

function say(words) {
  const place = document.getElementById("said");
  if (place && words) place.textContent = words.trim().replace(/\s+/g, " ");
}

// --- by keyboard: j and k move through proposals; a, e, n and r do what their buttons say

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyped(event.target)) return;
  if (event.key === "Escape") { document.querySelector(".menu[open]")?.removeAttribute("open"); return; }
  if (event.key === "/") {
    const field = document.querySelector("input[type=search]");
    if (field) { field.focus(); field.select(); event.preventDefault(); }
    return;
  }
  const all = [...document.querySelectorAll(".proposal[tabindex]")];
  if (!all.length) return;
  const here = all.indexOf(document.activeElement.closest(".proposal[tabindex]"));
  if (event.key === "j" || event.key === "k") {
    const next = event.key === "j" ? Math.min(here + 1, all.length - 1) : Math.max(here - 1, 0);
    all[next].focus();
    all[next].scrollIntoView({ block: "nearest" });
    event.preventDefault();
    return;
  }
  const does = here >= 0 && all[here].querySelector(`[data-key-does="${CSS.escape(event.key)}"]`);
  if (!does) return;
  event.preventDefault();
  if (does.nodeName === "SUMMARY") {
    does.parentElement.open = true;
    does.parentElement.querySelector("input:not([type=hidden]), textarea, select, button")?.focus();
  } else {
    const near = all[here + 1] || all[here - 1];
    does.click();
    near?.focus();
  }
});

document.addEventListener("click", (event) => {
  const menu = document.querySelector(".menu[open]");
  if (menu && !menu.contains(event.target)) menu.removeAttribute("open");
});
