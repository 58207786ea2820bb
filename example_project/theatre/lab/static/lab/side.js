// One side of the arena: its counters, and a mark for each request.

const LOOKS = 12;
const HEADINGS = { payment: "Payments", refund: "Refunds", report: "Reports of the provider" };
const euros = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });

export class Side {
  constructor(element) {
    this.element = element;
    this.requests = element.querySelector("[data-requests]");
    this.verdict = element.querySelector("[data-verdict]");
    this.clear();
  }

  clear() {
    this.right = {};
    this.due = "";
    this.marks = [];
    this.sent = this.answered = 0;
    this.requests.replaceChildren();
    this.say("", null);
    this.count({});
  }

  take(event) {
    const { kind } = event;
    if (kind === "begin") this.begin(event);
    else if (kind === "step") this.say(event.text, null);
    else if (kind === "sent") this.send(event);
    else if (kind === "answered") this.answer(event);
    else if (kind === "books") this.count(event);
    else if (kind === "result") this.conclude(event);
  }

  begin({ right, owed_minor: owed }) {
    this.right = { ...right, charged_minor: owed };
    this.count(Object.fromEntries(Object.keys(this.right).map((name) => [name, 0])));
    this.say("Waits for its turn.", null);
  }

  send({ number, what }) {
    this.sent += 1;
    const mark = document.createElement("li");
    mark.className = "mark";
    mark.dataset.shape = "waiting";
    label(mark, "·", `Request ${number + 1}: on its way`);
    this.marks[number] = mark;
    this.listOf(what).append(mark);
  }

  answer({ number, shape, look, status, named, id }) {
    this.answered += 1;
    const mark = this.marks[number];
    mark.dataset.shape = shape;
    if (look !== undefined) mark.dataset.look = look % LOOKS;
    label(mark, id ?? status ?? "✕", `Request ${number + 1}: ${words(status, named, id)}`);
  }

  count(books) {
    for (const row of this.element.querySelectorAll("[data-count]")) {
      const { count: name } = row.dataset;
      const [number, note] = row.querySelectorAll("dd > *");
      const right = this.right[name];
      const count = books[name];
      const isOfUse = right || count;
      row.hidden = (name === "refunds" || name === "handled") && !isOfUse;
      number.textContent = count === undefined || count === null ? "–" : shown(name, count);
      note.textContent = right === undefined || right === null ? "" : `of ${shown(name, right)}${name === "charged_minor" ? " due" : ""}`;
      row.dataset.state = isOfUse && count > right ? "over" : "";
    }
  }

  conclude(event) {
    this.count(event);
    for (const row of this.element.querySelectorAll("[data-count]")) {
      const { count: name } = row.dataset;
      const right = this.right[name] ?? null;
      if (right !== null) row.dataset.state = event[name] === right ? "right" : "over";
    }
    this.say(event.ok ? "✓ As it should be" : `✗ ${event.faults[0]}`, event.ok);
  }

  end() {
    for (const mark of this.marks) {
      if (mark?.dataset.shape === "waiting") label(mark, "?", "Request without an answer");
    }
  }

  say(text, isOk) {
    this.verdict.textContent = text;
    this.verdict.dataset.ok = isOk ?? "";
  }

  listOf(what) {
    const found = this.requests.querySelector(`[data-what="${what}"]`);
    if (found) return found;
    const heading = document.createElement("h3");
    heading.textContent = HEADINGS[what];
    const list = document.createElement("ol");
    list.dataset.what = what;
    list.setAttribute("aria-label", HEADINGS[what]);
    this.requests.append(heading, list);
    return list;
  }
}

function label(mark, text, words) {
  const shown = document.createElement("span");
  shown.textContent = text;
  shown.setAttribute("aria-hidden", "true");
  const spoken = document.createElement("span");
  spoken.textContent = words;
  spoken.className = "visually-hidden";
  mark.title = words;
  mark.replaceChildren(shown, spoken);
}

function words(status, named, id) {
  if (status === undefined) return "no answer";
  return id === undefined ? `answer ${status}` : `${named} ${id}`;
}

function shown(name, count) {
  return name === "charged_minor" ? euros.format(count / 100) : count;
}
