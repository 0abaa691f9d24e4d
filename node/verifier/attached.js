// The bundle inside a statement, found again in the PDF or the page that it is. No general reader
// of PDF: what is taken is the form in which ours are written. What is found is only as good as the
// checks that follow; whether the pages show the same is not looked at here (kinds.js).

import { bytesOfBase64, startsWith } from "./bytes.js";
import { FormatError } from "./errors.js";

const PDF_START = "%PDF-";
const HTML_START = "<!doctype html>";
const ATTACHED_BYTES_MAX = 64 << 20;
const FILE_BYTES_MAX = 3 * ATTACHED_BYTES_MAX;
const DISPUTES_FILE = "disputes.json";

const FILE =
  /\/Type\/Filespec\/F\(([^()\\]{1,200})\)\/UF\([^()\\]{1,200}\)\/EF<<\/F (\d{1,9}) 0 R\/UF/g;
const LINK = /<a download="([\w.+-]{1,200})" href="data:application\/(?:zip|json);base64,/g;

// How the object of a file inside a PDF begins.
function streamOf(number) {
  return new RegExp(
    `\\n${number} 0 obj\\n<</Length (\\d{1,10})/Type/EmbeddedFile(/Filter/FlateDecode)?` +
      "/Subtype/[\\w#]{1,40}/Params<<[^<>]{1,200}>>>>\\r?\\nstream\\r?\\n",
    "g",
  );
}

// Whether a file that begins so is a PDF or a page.
export function isStatement(bytes) {
  return startsWith(bytes, PDF_START) || startsWith(bytes, HTML_START);
}

// The bundle inside a statement as {name, bundle}; `FormatError` unless there is exactly one.
export async function findAttached(source) {
  if (source.size > FILE_BYTES_MAX) {
    throw new FormatError(`the file is larger than ${FILE_BYTES_MAX >> 20} MiB`);
  }
  const bytes = await source.read(0, source.size);
  // One letter for each byte, so that places in the text are places in the file.
  const text = new TextDecoder("latin1").decode(bytes);
  const files = startsWith(bytes, PDF_START) ? await ofPdf(bytes, text) : ofPage(text);
  const bundles = files.filter(({ name }) => name.endsWith(".tally"));
  const disputes = files.filter(({ name }) => name === DISPUTES_FILE);
  if (!bundles.length) {
    throw new FormatError(
      "no bundle is found inside",
      "A draft has none. If your reader lists an attachment that ends in .tally, save it and" +
        " check that",
    );
  }
  const known = bundles.length + disputes.length;
  if (bundles.length !== 1 || disputes.length > 1 || files.length !== known) {
    throw new FormatError(
      `${files.length} files are found inside, and not one bundle alone`,
      "Save the attachment that ends in .tally, and check that",
    );
  }
  return { name: bundles[0].name, bundle: bundles[0].content };
}

async function ofPdf(bytes, text) {
  const files = [];
  for (const [, name, number] of text.matchAll(FILE)) {
    const streams = [...text.matchAll(streamOf(Number(number)))];
    if (streams.length !== 1) {
      throw new FormatError(`${name} cannot be found in the PDF as a statement holds it`);
    }
    const [whole, length, packed] = streams[0];
    const start = streams[0].index + whole.length;
    const content = bytes.subarray(start, start + Number(length));
    files.push({ name, content: packed ? await inflated(content, name) : content });
  }
  return files;
}

// What zlib packed; `FormatError` if it is damaged, or too large to be ours.
async function inflated(bytes, name) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const pieces = [];
  let size = 0;
  try {
    for (const reader = stream.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > ATTACHED_BYTES_MAX) {
        await reader.cancel();
        break;
      }
      pieces.push(value);
    }
  } catch {
    throw new FormatError(`${name} inside the PDF is damaged`);
  }
  if (size > ATTACHED_BYTES_MAX) {
    throw new FormatError(`${name} inside the PDF is cut off or too large`);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

function ofPage(text) {
  const files = [];
  for (const match of text.matchAll(LINK)) {
    const begin = match.index + match[0].length;
    const end = text.indexOf('"', begin);
    if (end < 0 || text[end + 1] !== ">") continue;
    try {
      files.push({ name: match[1], content: bytesOfBase64(text.slice(begin, end)) });
    } catch {
      throw new FormatError("a file inside the page is not in base64");
    }
  }
  return files;
}
