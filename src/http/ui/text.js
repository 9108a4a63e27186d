// Bytes of output to rows of text, with the colours that a terminal would give them.
//
// UTF-8 is decoded here and not by TextDecoder: every row has to know at which byte it begins, whatever the bytes are.

const PLAIN = Object.freeze({ key: "", fg: null, bg: null, flags: 0 });
const FLAGS = { 1: 1, 2: 2, 3: 4, 4: 8, 7: 16, 8: 32, 9: 64 };
const NAMES = { 1: "bold", 2: "dim", 4: "italic", 8: "underline", 16: "inverse", 32: "hidden", 64: "strike" };
/** An escape sequence that is longer is none. */
const LONGEST = 4096;

function style(fg, bg, flags) {
  if (fg === null && bg === null && !flags) return PLAIN;
  return { key: `${fg}/${bg}/${flags}`, fg, bg, flags };
}

/** A colour of the 256: a number below 16 is the theme's, others are as they are. */
function indexed(n) {
  if (!(n >= 0 && n <= 255)) return null;
  if (n < 16) return n;
  if (n >= 232) {
    const grey = 8 + (n - 232) * 10;
    return `rgb(${grey},${grey},${grey})`;
  }
  const level = (step) => (step ? 55 + step * 40 : 0);
  const cube = n - 16;
  return `rgb(${level(Math.floor(cube / 36))},${level(Math.floor(cube / 6) % 6)},${level(cube % 6)})`;
}

/** What `ESC [ … m` makes of a style. */
export function graphics(before, text) {
  let { fg, bg, flags } = before;
  const codes = text.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  for (let n = 0; n < codes.length; n += 1) {
    const code = codes[n];
    if (code === 0) [fg, bg, flags] = [null, null, 0];
    else if (FLAGS[code]) flags |= FLAGS[code];
    else if (code === 22) flags &= ~3;
    else if (FLAGS[code - 20]) flags &= ~FLAGS[code - 20];
    else if (code >= 30 && code <= 37) fg = code - 30;
    else if (code >= 90 && code <= 97) fg = code - 82;
    else if (code >= 40 && code <= 47) bg = code - 40;
    else if (code >= 100 && code <= 107) bg = code - 92;
    else if (code === 39) fg = null;
    else if (code === 49) bg = null;
    else if (code === 38 || code === 48) {
      let colour = null;
      if (codes[n + 1] === 5) {
        colour = indexed(codes[n + 2]);
        n += 2;
      } else if (codes[n + 1] === 2) {
        const parts = codes.slice(n + 2, n + 5);
        if (parts.length === 3 && parts.every((part) => part >= 0 && part <= 255)) colour = `rgb(${parts.join(",")})`;
        n += 4;
      }
      if (code === 38) fg = colour;
      else bg = colour;
    }
  }
  return style(fg, bg, flags);
}

/** Whether a character takes two columns. */
function wide(c) {
  return c >= 0x1100 && (c <= 0x115f || (c >= 0x2e80 && c <= 0xa4cf) || (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xf900 && c <= 0xfaff)
    || (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) || (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd));
}

function combining(c) {
  return (c >= 0x300 && c <= 0x36f) || (c >= 0x200b && c <= 0x200f) || (c >= 0xfe00 && c <= 0xfe0f) || (c >= 0x20d0 && c <= 0x20f0);
}

/** What turns the direction of text around is shown, not done: output shall not look like what it is not. */
function turns(c) {
  return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/** The character at `at` and the bytes that it takes; 0 bytes where its end is not there yet. */
function decode(bytes, at, final) {
  const first = bytes[at];
  if (first < 0x80) return [first, 1];
  const length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 0;
  if (!length) return [0xfffd, 1];
  let c = first & (0xff >> (length + 1));
  for (let n = 1; n < length; n += 1) {
    if (at + n >= bytes.length) return final ? [0xfffd, n] : [0, 0];
    const next = bytes[at + n];
    if ((next & 0xc0) !== 0x80) return [0xfffd, n];
    c = (c << 6) | (next & 0x3f);
  }
  const least = [0, 0, 0x80, 0x800, 0x10000][length];
  if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return [0xfffd, 1];
  return [c, length];
}

/** Where an escape sequence ends, and the codes of one that gives colours; none where its end is not there yet. */
function escape(bytes, at) {
  const kind = bytes[at + 1];
  if (kind === undefined) return null;
  const most = Math.min(bytes.length, at + LONGEST);
  if (kind === 0x5b) {
    for (let n = at + 2; n < most; n += 1) {
      const byte = bytes[n];
      if (byte >= 0x40 && byte <= 0x7e) {
        const codes = byte === 0x6d ? String.fromCharCode(...bytes.subarray(at + 2, n)) : null;
        return { end: n + 1, codes: codes !== null && /^[\d;:]*$/.test(codes) ? codes : null };
      }
      if (byte < 0x20 || byte > 0x7e) return { end: n, codes: null };
    }
  } else if (kind === 0x5d || kind === 0x50 || kind === 0x5e || kind === 0x5f) {
    // A title, a link and the like, to BEL or ESC \.
    for (let n = at + 2; n < most; n += 1) {
      if (bytes[n] === 0x07) return { end: n + 1, codes: null };
      if (bytes[n] === 0x1b) return { end: n + (bytes[n + 1] === 0x5c ? 2 : 0), codes: null };
      if (bytes[n] === 0x0a) return { end: n, codes: null };
    }
  } else if (kind >= 0x20 && kind <= 0x2f) {
    // A character set: one more character.
    if (at + 2 >= bytes.length) return null;
    return { end: at + 3, codes: null };
  } else {
    return { end: Math.min(at + 2, bytes.length), codes: null };
  }
  return most === at + LONGEST ? { end: at + 1, codes: null } : null;
}

/**
 * A row as it is shown: the bytes from `at` to `end`.
 * @typedef {object} Row
 * @property {number} at
 * @property {number} end
 * @property {object} style In which the row begins.
 * @property {{ text: string, style: object }[]} spans
 * @property {string} text
 * @property {number} columns
 * @property {string | null} tag The stream, where there are several.
 * @property {boolean} open Whether more may come in this row.
 * @property {boolean} broken Whether the row ends because it was too long.
 */

class Line {
  constructor(at, before, tag) {
    this.at = at;
    this.style = before;
    this.tag = tag;
    this.clear();
  }

  clear() {
    this.text = "";
    this.spans = [];
    this.columns = 0;
  }

  put(text, columns, now) {
    const last = this.spans.at(-1);
    if (last && last.style === now) last.text += text;
    else this.spans.push({ text, style: now });
    this.text += text;
    this.columns += columns;
  }
}

/**
 * Rows of `bytes`, which begin at offset `base` with style `before`; a row has at most `columns` columns. The last row is `open` where
 * nothing has ended it: it is to be made anew from its `at` and `style` when more has come. `final` says that nothing more will.
 */
export function rowsOf(bytes, base, before, columns, { final = false, tag = null } = {}) {
  const rows = [];
  let now = before ?? PLAIN;
  let line = new Line(base, now, tag);
  let at = 0;
  let returned = false;
  const end = (next, broken) => {
    rows.push({ at: line.at, end: base + next, style: line.style, spans: line.spans, text: line.text, columns: line.columns, tag, open: false, broken });
    line = new Line(base + next, now, tag);
    returned = false;
  };
  const put = (text, width, size) => {
    // Only what comes after it says what a carriage return was for.
    if (returned) line.clear();
    returned = false;
    if (line.columns + width > columns && line.columns > 0) {
      end(at, true);
      // At the beginning of a row a tab is a whole one.
      if (text === "\t") width = 8;
    }
    line.put(text, width, now);
    at += size;
  };
  while (at < bytes.length) {
    const byte = bytes[at];
    if (byte === 0x0a) {
      at += 1;
      end(at, false);
    } else if (byte >= 0x20 && byte < 0x7f) {
      const room = Math.max(1, returned ? columns : columns - line.columns);
      let stop = at + 1;
      const most = Math.min(bytes.length, at + Math.min(room, 8192));
      while (stop < most && bytes[stop] >= 0x20 && bytes[stop] < 0x7f) stop += 1;
      put(String.fromCharCode.apply(null, bytes.subarray(at, stop)), stop - at, stop - at);
    } else if (byte === 0x09) {
      const width = 8 - ((returned ? 0 : line.columns) % 8);
      put("\t", width, 1);
    } else if (byte === 0x0d) {
      returned = true;
      at += 1;
    } else if (byte === 0x1b) {
      const found = escape(bytes, at);
      if (!found) {
        if (!final) break;
        put("␛", 1, 1);
        continue;
      }
      if (found.codes !== null) now = graphics(now, found.codes);
      at = found.end;
    } else if (byte < 0x20 || byte === 0x7f) {
      put(String.fromCharCode(byte === 0x7f ? 0x2421 : 0x2400 + byte), 1, 1);
    } else {
      const [c, size] = decode(bytes, at, final);
      if (!size) break;
      if (c >= 0x80 && c < 0xa0) put("\ufffd", 1, size);
      else if (turns(c)) put(`<U+${c.toString(16).toUpperCase()}>`, 8, size);
      else put(String.fromCodePoint(c), combining(c) ? 0 : wide(c) ? 2 : 1, size);
    }
  }
  if (line.at < base + bytes.length) {
    end(bytes.length, false);
    const last = rows.at(-1);
    last.open = true;
  }
  return { rows, style: now };
}

/** A row as elements; `find` is what to mark in it, in lower case unless `exact`. */
export function paint(row, find, exact) {
  const parts = [];
  const marks = find ? places(exact ? row.text : row.text.toLowerCase(), find) : [];
  let from = 0;
  for (const span of row.spans) {
    const to = from + span.text.length;
    let at = from;
    for (const [start, stop] of marks) {
      if (stop <= at || start >= to) continue;
      if (start > at) parts.push(piece(row.text.slice(at, start), span.style, "span"));
      at = Math.max(at, start);
      parts.push(piece(row.text.slice(at, Math.min(stop, to)), span.style, "mark"));
      at = Math.min(stop, to);
    }
    if (at < to) parts.push(piece(row.text.slice(at, to), span.style, "span"));
    from = to;
  }
  return parts;
}

function places(text, find) {
  const marks = [];
  for (let at = text.indexOf(find); at >= 0 && marks.length < 200; at = text.indexOf(find, at + find.length)) marks.push([at, at + find.length]);
  return marks;
}

function piece(text, given, tag) {
  if (given === PLAIN && tag === "span") return document.createTextNode(text);
  const element = document.createElement(tag);
  element.textContent = text;
  let { fg, bg } = given;
  for (const [bit, name] of Object.entries(NAMES)) if (given.flags & Number(bit)) element.classList.add(name);
  if (given.flags & 16) [fg, bg] = [bg ?? "back", fg ?? "fore"];
  if (typeof fg === "number") element.classList.add(`f${fg}`);
  else if (fg === "back") element.classList.add("fback");
  else if (fg) element.style.color = fg;
  if (typeof bg === "number") element.classList.add(`b${bg}`);
  else if (bg === "fore") element.classList.add("bfore");
  else if (bg) element.style.backgroundColor = bg;
  return element;
}
