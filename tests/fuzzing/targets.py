"""The targets by name."""

from __future__ import annotations

from collections.abc import Callable

from fuzzing import accusations, bundles, exports, logs, settings, sketches, stored, texts, wire

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    "addresses": wire.addresses,
    "batches": logs.batches,
    "bundles": bundles.bundles,
    "certificates": wire.certificates,
    "checkpoints": texts.checkpoints,
    "configs": settings.configs,
    "csv": exports.csv,
    "csv-gz": exports.csv_gz,
    "evidence": accusations.evidence,
    "frames": wire.frames,
    "guilty": accusations.guilty,
    "heads": texts.heads,
    "innocents": accusations.innocents,
    "invites": wire.invites,
    "json-lines": exports.json_lines,
    "lapses": accusations.lapses,
    "line-proofs": texts.line_proofs,
    "lines": logs.lines,
    "logs": logs.logs,
    "manifests": stored.manifests,
    "mappings": settings.mappings,
    "messages": wire.messages,
    "notes": texts.notes,
    "pages": stored.pages,
    "pairing": wire.pairing,
    "parquet": exports.parquet,
    "periods": texts.periods,
    "private-rows": sketches.private_rows,
    "proofs": texts.proofs,
    "quantities": texts.quantities,
    "reconciling": sketches.reconciling,
    "records": logs.records,
    "refutations": accusations.refutations,
    "requests": wire.requests,
    "rows": stored.rows,
    "session": wire.session,
    "signed-bundles": bundles.signed_bundles,
    "sketches": sketches.sketches,
    "statements": logs.statements,
    "terms": settings.terms,
    "times": texts.times,
    "verified": accusations.verified,
    "vkeys": texts.vkeys,
    "zones": texts.zones,
}
