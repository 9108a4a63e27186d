// Searching output of any size: block by block from where the reader is, in either direction, without keeping what was read.

const BLOCK = 4 << 20;

/** As bytes, each a character: then a place in the text is an offset. */
const latin = new TextDecoder("windows-1252");

/** A text with a capital letter is searched for as it is, any other in either case. */
export function isExact(text) {
  return text !== text.toLowerCase();
}

/**
 * The offset of the next place of `text` in `source` at or after `from`, or with `back` of the last one before it; null where there is none
 * up to the end. Calls `progress` with the offset that it has come to.
 */
export async function search(source, text, from, back, progress, signal) {
  const exact = isExact(text);
  const coded = latin.decode(new TextEncoder().encode(text));
  const needle = exact ? coded : coded.toLowerCase();
  const reach = needle.length - 1;
  const look = async (start, end) => {
    const block = latin.decode(await source.read(start, end, signal));
    return exact ? block : block.toLowerCase();
  };
  if (back) {
    // A place before `from` may reach beyond it.
    for (let end = from; end > 0;) {
      const start = Math.max(0, end - BLOCK);
      const block = await look(start, Math.min(source.length, end + reach));
      signal?.throwIfAborted();
      const found = end - start > 0 ? block.lastIndexOf(needle, end - start - 1) : -1;
      if (found >= 0) return start + found;
      end = start;
      progress(end);
    }
    return null;
  }
  for (let start = from; start < source.length;) {
    const end = Math.min(source.length, start + BLOCK);
    const found = (await look(start, Math.min(source.length, end + reach))).indexOf(needle);
    signal?.throwIfAborted();
    if (found >= 0) return start + found;
    start = end;
    progress(start);
  }
  return null;
}
