// Server-sent events out of a fetch's body: what EventSource would give, for calls that need a method, a status or a
// deadline of their own.

/** Reads to the end. `heard` is called with every piece, also with the comments that only keep a line open. */
export async function readEvents(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  event: (name: string, data: string) => void,
  heard: () => void = () => {},
): Promise<void> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "message";
  let data: string[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    rest += value;
    let from = 0;
    for (let end = rest.indexOf("\n", from); end >= 0; end = rest.indexOf("\n", from)) {
      const line = rest.slice(from, rest[end - 1] === "\r" ? end - 1 : end);
      from = end + 1;
      if (line === "") {
        if (data.length > 0) event(name, data.join("\n"));
        name = "message";
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
      } else if (line.startsWith("event:")) {
        name = line.slice(6).trim();
      }
    }
    rest = rest.slice(from);
  }
}
