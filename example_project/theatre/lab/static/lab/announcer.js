// What the page says in words: what is going on, what it means, and what went wrong.

export class Announcer {
  constructor(arena) {
    const find = (id) => arena.querySelector(`#${id}`);
    this.plot = find("plot");
    this.bar = find("progress");
    this.noteLine = find("note");
    this.errorBox = find("error");
    this.conclusion = find("conclusion");
  }

  begin(plot) {
    this.plot.textContent = plot;
    this.conclusion.replaceChildren();
    this.note("");
    this.errorBox.replaceChildren();
    this.progress([]);
    this.bar.hidden = false;
  }

  progress(sides) {
    const sent = sum(sides.map((side) => side.sent));
    const answered = sum(sides.map((side) => side.answered));
    const meter = this.bar.querySelector("progress");
    if (sent) {
      // Both sides send as much, and one may not have begun.
      meter.max = sides.length * Math.max(...sides.map((side) => side.sent));
      meter.value = answered;
    } else {
      meter.removeAttribute("value"); // nobody knows yet how far it is
    }
    const text = this.bar.querySelector("#progress-text");
    text.textContent = sent ? `${answered} of ${sent} requests answered` : "Getting ready";
  }

  conclude({ text, moral, ok }) {
    this.conclusion.dataset.ok = ok;
    this.conclusion.replaceChildren(...paragraphs(text, moral));
  }

  note(text) {
    this.noteLine.textContent = text;
  }

  error(text, advice) {
    this.errorBox.replaceChildren(...paragraphs(text, advice));
  }

  end() {
    this.bar.hidden = true;
  }
}

function paragraphs(...texts) {
  return texts.filter(Boolean).map((text) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    return paragraph;
  });
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}
