// A run's events, each once and in order, also over a line that breaks: the browser asks
// again for what came after the last one that it has seen.

export function follow(url, { happened, cut, back, gone, over }) {
  const source = new EventSource(url);
  let isCut = false;
  source.addEventListener("open", () => {
    if (isCut) back();
    isCut = false;
  });
  source.addEventListener("message", ({ data }) => happened(JSON.parse(data)));
  source.addEventListener("over", () => {
    source.close();
    over();
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      gone();
    } else if (!isCut) {
      isCut = true;
      cut();
    }
  });
}
