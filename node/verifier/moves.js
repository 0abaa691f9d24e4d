// When the totals of a line changed: whoever adds to an accepted line opens it again. At each
// closing a line has what was billed of it before, and what both logs' totals are by then; where
// they differ, it *moved*.

const NEVER = -1;

// By how much one log's totals of some lines differ from what is billed, where they do.
export function unbilled(lines, tallies) {
  const found = new Map();
  for (const line of lines) {
    const tally = tallies.get(line);
    if (tally && tally.total !== tally.billed) found.set(line, tally.total - tally.billed);
  }
  return found;
}

// The moves of lines, from what of each log was not billed just before each closing did, in order,
// and from what is not billed now, as the last one.
export function findMoves(provider, consumer) {
  const moves = new Map();
  provider.forEach((ofProvider, closing) => {
    const ofConsumer = consumer[closing];
    for (const line of new Set([...ofProvider.keys(), ...ofConsumer.keys()])) {
      const move = {
        closing,
        provider: ofProvider.get(line) ?? 0n,
        consumer: ofConsumer.get(line) ?? 0n,
      };
      if (!moves.has(line)) moves.set(line, []);
      moves.get(line).push(move);
    }
  });
  return moves;
}

// The moves as they were at the heads of a checkpoint: at that closing and those before it.
export function movesUntil(moves, closing) {
  return new Map(
    [...moves].map(([line, found]) => [line, found.filter((move) => move.closing <= closing)]),
  );
}

// The newest of the first `closings` closings at which a line moved, `NEVER` if none; null if it is
// not now what it was then: what later closings billed may have been taken back since.
export function lastMoved(moves, closings) {
  const later = moves.filter((move) => move.closing >= closings);
  const sum = (side) => later.reduce((total, move) => total + move[side], 0n);
  if (sum("provider") || sum("consumer")) return null;
  const earlier = moves.filter((move) => move.closing < closings);
  return earlier.reduce((newest, move) => Math.max(newest, move.closing), NEVER);
}
