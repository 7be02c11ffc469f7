"use strict";
// One state a second from /state.json, drawn with SVG. Text only ever enters the page as text, never as markup.

const EVERY_MS = 1000, PATIENCE_MS = 4000, TRAIL = 24, RATES = 60, WINDOW = 30;
const PHASES = ["explore", "execute", "closed"];
const $ = (id) => document.getElementById(id);
const trails = new Map(); // by session: where its belief was
const heard = new Map(); // by session: its last number of events, and when that changed
const rates = []; // steps per second between states
const past = []; // [seconds, counts] of the last WINDOW states
let token = takeToken(), answeredAt = null, picked = null, last = null;

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

function make(kind, attributes, ...children) {
  const svg = ["svg", "path", "line", "circle", "rect", "polyline", "polygon", "text", "g", "title"].includes(kind);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", kind) : document.createElement(kind);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const show = (value, digits = 3) =>
  value === null || value === undefined ? "–" : Number(value.toPrecision(digits)).toLocaleString("en-US");
const percent = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);
const many = (count, word) => `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((total, value) => total + value, 0);
const place = (value, low, high, from, to) => from + ((value - low) / (high - low || 1)) * (to - from);

// ---- tiles

function tile(title, big, unit, more, mood = "") {
  const made = make("div", { class: `card tile ${mood}` }, make("h2", null, title));
  made.append(make("p", { class: "big" }, big, unit ? make("small", null, ` ${unit}`) : null));
  if (more) made.append(typeof more === "string" ? make("p", { class: "more" }, more) : more);
  return made;
}

function rateOf(counts, at) {
  const [before, earlier] = past[past.length - 1] || [at, counts];
  if (counts.steps < earlier.steps) past.length = rates.length = 0; // another server
  if (at > before) rates.push((counts.steps - earlier.steps) / (at - before));
  if (at > before || !past.length) past.push([at, counts]);
  if (past.length > WINDOW) past.shift();
  if (rates.length > RATES) rates.shift();
  return rates.length ? rates[rates.length - 1] : null;
}

function recent(counts, name) { // counts of the last WINDOW states or, if nothing happened in them, of all time
  const since = past.length ? past[0][1][name] : null;
  const gained = since ? counts[name].map((count, index) => count - since[index]) : counts[name];
  return sum(gained) ? gained : counts[name];
}

function within(counts, bounds, share) { // the bound that this share of durations is within
  let seen = 0;
  if (!sum(counts)) return "–";
  for (let index = 0; index < counts.length; index++) {
    seen += counts[index];
    if (seen >= share * sum(counts)) return index < bounds.length ? `≤ ${bounds[index]}` : `> ${bounds[index - 1]}`;
  }
}

function sparkline(values, width, height) {
  const top = Math.max(...values, 1e-9);
  const points = values.map((v, i) => [place(i, 0, RATES - 1, 0, width), place(v, 0, top, height - 1, 2)]);
  const edge = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const drawn = make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
  if (points.length < 2) return drawn;
  const end = points[points.length - 1][0].toFixed(1);
  drawn.append(make("polygon", { class: "area", points: `0,${height} ${edge} ${end},${height}` }));
  drawn.append(make("polyline", { class: "edge", points: edge }));
  return drawn;
}

function bars(counts) {
  const drawn = make("svg", { viewBox: `0 0 ${counts.length * 14} 26`, preserveAspectRatio: "none" });
  const top = Math.max(...counts, 1);
  counts.forEach((count, index) => {
    const height = count ? Math.max(1.5, (24 * count) / top) : 0.5;
    drawn.append(make("rect", { class: "bar", x: index * 14, y: 26 - height, width: 12, height }));
  });
  return drawn;
}

function drawTiles(state) {
  const { totals, counts, server } = state, tiles = [];
  const split = make("div", { class: "split" });
  for (const phase of ["explore", "execute"]) {
    const part = make("i", { class: phase });
    part.style.flex = totals[phase];
    split.append(part);
  }
  const held = make("div", { class: "more" }, split, `${totals.explore} explore · ${totals.execute} execute`);
  tiles.push(tile("Sessions", show(state.num_sessions, 9), `of ${server.max_sessions}`, held));
  if (counts) {
    const rate = rateOf(counts, server.at_s);
    tiles.push(tile("Steps per second", rate === null ? "–" : show(Math.round(rate), 6), "", sparkline(rates, 170, 26)));
    const step = recent(counts, "step_ms");
    const half = (durations) => within(durations, counts.bounds_ms, 0.5);
    const told = sum(step) ? `half ${half(step)}, networks ${half(recent(counts, "infer_ms"))}` : "no step yet";
    const latency = make("div", { class: "more" }, bars(step), make("p", null, told));
    tiles.push(tile("99 % of steps", within(step, counts.bounds_ms, 0.99), sum(step) ? "ms" : "", latency));
    const kinds = Object.entries(counts.interventions).filter(([, count]) => count);
    const grave = counts.interventions["not-finite"] + counts.interventions.late + counts.interventions.safe;
    const mended = kinds.map(([kind, count]) => `${kind} ${show(count, 6)}`).join(" · ") || "every action passed as it was";
    tiles.push(tile("Guard interventions", show(sum(Object.values(counts.interventions)), 6), "", mended, grave ? "uneasy" : ""));
  }
  const safe = sum(Object.values(totals.safe));
  const why = Object.entries(totals.safe).filter(([, count]) => count).map(([reason, count]) => `${reason} ${count}`);
  tiles.push(tile("SAFE", show(safe, 6), "", why.join(" · ") || "every session acts", safe ? "lost" : ""));
  const owed = totals.owed ? `${many(totals.owed, "transition")} owed` : "sessions unlike training";
  tiles.push(tile("Novel", show(totals.novel, 6), "", owed, totals.novel ? "uneasy" : ""));
  const store = server.store;
  if (!store) tiles.push(tile("Store", "memory", "", "sessions end with the server"));
  else tiles.push(tile("Store", store.well ? "well" : "fails", "", `${many(store.unsaved, "session")} to write · ${many(store.failures, "failure")}`, store.well ? "" : "lost"));
  $("tiles").replaceChildren(...tiles);
}

// ---- the adaptation curve

function axes(figure, box, xs, ys, shade) {
  if (shade) figure.append(make("rect", { class: "shade", ...shade }));
  for (const [y, label] of ys) {
    figure.append(make("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }));
    figure.append(make("text", { x: box.left - 6, y: y + 4, "text-anchor": "end" }, label));
  }
  for (const [x, label] of xs) figure.append(make("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, label));
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, size = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((k) => k * size).find((k) => k >= rough) || 1;
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9; tick += step) found.push(tick);
  return found;
}

function drawCurve(state) {
  const figure = $("curve"), { server } = state, box = { left: 46, right: 548, top: 12, bottom: 270 };
  const curves = [...state.sessions, ...state.ended].filter((session) => session.first.length);
  figure.replaceChildren();
  const all = curves.flatMap((session) => session.first);
  const typical = server.typical_return;
  $("typical-key").hidden = typical === null || !curves.length;
  const ended = state.ended.length ? `, ${state.ended.length} of them ended` : "";
  $("curve-note").textContent = curves.length ? many(curves.length, "trial") + ended : "no episode has ended yet";
  if (!curves.length) return;
  const span = Math.max(server.episodes, ...curves.map((session) => session.first.length));
  const low = Math.min(0, ...all, typical ?? 0), high = Math.max(...all, typical ?? -Infinity, low + 1e-6);
  const x = (episode) => place(episode, 0.5, span + 0.5, box.left, box.right);
  const y = (value) => place(value, low, high, box.bottom, box.top + 8);
  const numbers = Array.from({ length: span }, (_, index) => index + 1).filter((n) => span <= 12 || n % Math.ceil(span / 8) === 0);
  const shade = { x: box.left, y: box.top, width: Math.max(0, x(server.explore_episodes + 0.5) - box.left), height: box.bottom - box.top };
  axes(figure, box, numbers.map((n) => [x(n), n]), ticks(low, high, 4).map((t) => [y(t), show(t)]), shade);
  figure.append(make("text", { x: box.left + 10, y: box.bottom - 10 }, "exploring"));
  if (typical !== null) figure.append(make("line", { class: "typical", x1: box.left, x2: box.right, y1: y(typical), y2: y(typical) }));
  const chosen = curves.find((session) => session.id === picked);
  for (const session of curves.slice(0, 80)) figure.append(trialLine(session, x, y));
  figure.append(make("polyline", { class: "mean", points: means(curves, span).map(([n, v]) => `${x(n)},${y(v)}`).join(" ") }));
  if (chosen) figure.append(trialLine(chosen, x, y));
}

function trialLine(session, x, y) {
  const points = session.first.map((total, index) => `${x(index + 1).toFixed(1)},${y(total).toFixed(1)}`).join(" ");
  return make("polyline", { class: `thin ${session.phase}${session.id === picked ? " picked" : ""}`, points });
}

function means(curves, span) {
  const found = [];
  for (let n = 1; n <= span; n++) {
    const totals = curves.map((session) => session.first[n - 1]).filter((total) => total !== undefined && total !== null);
    if (totals.length && totals.length >= curves.length / 2) found.push([n, sum(totals) / totals.length]);
  }
  return found;
}

// ---- the map of beliefs

function range(tasks) {
  const firsts = tasks.map((task) => task[0]);
  return `blue ${show(Math.min(...firsts), 2)} to pink ${show(Math.max(...firsts), 2)}`;
}

function hue(task, tasks) { // the first entry of a task, from one end of its range to the other
  const firsts = tasks.map((one) => one[0]), low = Math.min(...firsts), high = Math.max(...firsts);
  return `hsl(${Math.round(place(task[0], low, high, 215, 335))} 38% 56%)`;
}

function drawMap(state) {
  const figure = $("map"), plane = state.map;
  figure.replaceChildren();
  $("map-legend").hidden = !plane;
  const sessions = [...state.ended, ...state.sessions].filter((session) => session.at);
  $("map-note").textContent = !plane
    ? "this bundle holds no statistics of its training tasks: export it again"
    : plane.points.length
      ? `${plane.labels[0]}: ${range(plane.tasks)}`
      : "this bundle holds no beliefs of training tasks, only their extent: export it again";
  if (!plane) return;
  const beliefs = [...(plane.points.length ? plane.points : plane.known), ...sessions.map((session) => session.at)];
  const xs = beliefs.map((at) => at[0]), ys = beliefs.map((at) => at[1]);
  const middle = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2];
  const scale = Math.min(460 / (Math.max(...xs) - Math.min(...xs) || 1), 230 / (Math.max(...ys) - Math.min(...ys) || 1));
  const to = (at) => [280 + (at[0] - middle[0]) * scale, 150 - (at[1] - middle[1]) * scale].map((v) => v.toFixed(1));
  if (plane.known.length) figure.append(make("polygon", { class: "known", points: plane.known.map((at) => to(at).join()).join(" ") }));
  plane.points.forEach((at, index) => {
    const [cx, cy] = to(at), task = plane.tasks[index];
    const named = task.map((value, entry) => `${plane.labels[entry]} ${show(value)}`).join(", ");
    const dot = make("circle", { class: "task", cx, cy, r: 3.2, fill: hue(task, plane.tasks), "fill-opacity": 0.6 });
    dot.append(make("title", null, named));
    figure.append(dot);
  });
  for (const session of sessions) drawBelief(figure, session, to);
}

function drawBelief(figure, session, to) {
  const trail = trails.get(session.id) || [], [cx, cy] = to(session.at), chosen = session.id === picked;
  if (trail.length > 1) {
    const points = trail.map((at) => to(at).join()).join(" ");
    figure.append(make("polyline", { class: `trail ${session.phase}${chosen ? " picked" : ""}`, points }));
  }
  if (session.novelty > 1) figure.append(make("circle", { class: "halo", cx, cy, r: 8 }));
  const ended = session.phase === "closed";
  const dot = make("circle", { class: `spot ${session.phase}${chosen ? " picked" : ""}`, cx, cy, r: ended ? 3.4 : 5 });
  dot.append(make("title", null, `${session.id}, certainty ${percent(session.certainty)}, novelty ${show(session.novelty, 2)}`));
  figure.append(dot);
}

function follow(sessions) {
  const kept = new Set(sessions.map((session) => session.id));
  for (const id of trails.keys()) if (!kept.has(id)) trails.delete(id);
  for (const id of heard.keys()) if (!kept.has(id)) heard.delete(id);
  for (const session of sessions) {
    const before = heard.get(session.id);
    if (!before || before[0] !== session.events) heard.set(session.id, [session.events, Date.now()]);
    if (!session.at || session.phase === "closed") continue;
    const trail = trails.get(session.id) || trails.set(session.id, []).get(session.id);
    const [x, y] = trail[trail.length - 1] || [];
    if (x !== session.at[0] || y !== session.at[1]) trail.push(session.at);
    if (trail.length > TRAIL) trail.shift();
  }
}

// ---- the sessions

function returnsOf(session) {
  const drawn = make("svg", { viewBox: "0 0 130 22", preserveAspectRatio: "none" });
  const low = Math.min(0, ...session.last), high = Math.max(...session.last, low + 1e-6);
  const wide = Math.min(12, 130 / Math.max(session.last.length, 1));
  session.last.forEach((total, index) => {
    const top = place(total, low, high, 21, 2), zero = place(0, low, high, 21, 2);
    drawn.append(make("rect", { class: "bar", x: index * wide, y: Math.min(top, zero), width: wide - 2, height: Math.max(1, Math.abs(zero - top)) }));
  });
  return drawn;
}

function gauge(kind, share, label) {
  const fill = make("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share ?? 0))}%`;
  return [make("span", { class: `gauge ${kind}` }, fill), label];
}

function guardOf(session) {
  const badges = [];
  if (session.safe) badges.push(make("span", { class: "badge bad" }, `SAFE: ${session.safe}`));
  if (session.mended) badges.push(make("span", { class: "badge" }, `${session.interventions.join(" ")} ×${session.mended}`));
  return badges.length ? badges : ["–"];
}

function row(session) {
  const ended = session.phase === "closed", silent = (Date.now() - (heard.get(session.id) || [0, Date.now()])[1]) / 1000;
  const quiet = !ended && silent >= 3 ? make("span", { class: "quiet" }, `silent ${Math.round(silent)} s`) : null;
  const novel = session.novelty > 1 ? "novelty high" : "novelty";
  const made = make(
    "tr", { class: ended ? "ended" : "", "data-session": session.id },
    make("td", { class: "id" }, session.id, versionOf(session, last)),
    make("td", null, make("span", { class: `phase ${session.phase}` }, ended ? "ended" : session.phase), ...(quiet ? [quiet] : [])),
    make("td", { class: "wide" }, ended ? many(session.episode, "episode") : `${session.episode + 1}, step ${session.step}`),
    make("td", null, returnsOf(session)),
    make("td", { class: "num middle" }, show(session.last.length ? session.last[session.last.length - 1] : null, 4)),
    make("td", null, ...gauge("certainty", session.certainty, percent(session.certainty))),
    make("td", null, ...gauge(novel, session.novelty === null ? 0 : session.novelty / 2, session.novelty === null ? "–" : session.novelty.toFixed(2))),
    make("td", { class: "wide" }, ...guardOf(session)),
    make("td", { class: "num wide" }, session.total_ms === null ? "–" : `${show(session.total_ms, 2)} ms`),
  );
  made.addEventListener("mouseenter", () => pick(session.id));
  made.addEventListener("mouseleave", () => pick(null));
  return made;
}

function pick(id) {
  picked = id;
  if (last) drawCurve(last), drawMap(last);
}

function drawVersions(state) {
  const { versions } = state.server, several = versions.length > 1;
  $("versions").hidden = !several;
  if (!several) return;
  const cells = versions.map((version) => {
    const held = state.totals.bundles[version.bundle] || 0;
    const name = `${version.agent} ${version.name}`;
    return make("li", null, make("b", null, version.role), ` ${name} `, make("span", { class: "dim" }, `${version.bundle} · ${many(held, "session")}`));
  });
  $("versions").firstElementChild.replaceChildren(...cells);
}

function versionOf(session, state) {
  const { versions } = state.server;
  const own = versions.length > 1 ? versions.find((version) => version.bundle === session.bundle) : null;
  return own ? make("span", { class: "quiet" }, own.name) : null;
}

function drawRows(state) {
  const rows = [...state.sessions, ...state.ended];
  drawVersions(state);
  const hidden = state.num_sessions - state.sessions.length;
  $("shown").textContent = hidden > 0 ? `the newest ${state.sessions.length} of ${state.num_sessions}` : "";
  $("list").hidden = !rows.length;
  $("returns").hidden = !rows.length;
  $("empty").hidden = rows.length > 0;
  $("rows").replaceChildren(...rows.map(row));
}

// ---- the whole

function draw(state) {
  const { server } = state;
  last = state;
  document.title = `ccm · ${server.agent_id}`;
  $("agent").textContent = server.agent_id;
  $("about").textContent = `${server.method} on ${server.family} · bundle ${server.bundle} · ${server.device} · ccm ${server.version} · ${server.address}`;
  $("command").textContent = `ccm adapt --server ${server.address}`;
  const [word, mood] = server.draining ? ["draining", "uneasy"] : server.device === "lost" ? ["GPU failed", "lost"] : server.store && !server.store.well ? ["store fails", "lost"] : ["serving", "well"];
  $("status").textContent = word;
  $("status").className = `pill ${mood}`;
  $("main").hidden = false;
  follow([...state.sessions, ...state.ended]);
  drawTiles(state);
  drawCurve(state);
  drawMap(state);
  drawRows(state);
}

function ask(hint) {
  $("entry").hidden = false;
  $("main").hidden = true;
  $("status").textContent = hint;
  $("status").className = "pill uneasy";
}

function stale(why) {
  document.body.classList.add("stale");
  $("status").textContent = "no answer";
  $("status").className = "pill lost";
  $("notice").textContent = `${why}; ${answeredAt ? `this is how it was at ${answeredAt.toLocaleTimeString()}` : "nothing is known yet"}.`;
  $("notice").hidden = false;
}

async function look() {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const reply = await fetch("state.json", { headers, signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (reply.status === 401) return ask(token ? "wrong token" : "token?");
    if (!reply.ok) return stale(`The server says: ${(await reply.text()).trim()}`);
    const state = await reply.json();
    answeredAt = new Date();
    document.body.classList.remove("stale");
    $("notice").hidden = $("entry").hidden = true;
    draw(state);
    $("asof").textContent = `as of ${answeredAt.toLocaleTimeString()}`;
  } catch {
    stale("The server does not answer");
  }
}

$("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  sessionStorage.setItem("token", token);
  look();
});

(async function watch() {
  for (;;) {
    if (!document.hidden || answeredAt === null) await look();
    await new Promise((wake) => setTimeout(wake, EVERY_MS));
  }
})();
