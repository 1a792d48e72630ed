/**
 * The tables, as numbered steps. A database of version n has had the first n steps; a new version adds a step and never
 * changes one. Units are in the names of the columns; times (`…_at`) are UTC.
 */
export const steps: readonly string[] = [
  `
CREATE TABLE models (
  model TEXT PRIMARY KEY,
  task TEXT NOT NULL,
  source_sha256 TEXT NOT NULL,
  original_bytes INTEGER NOT NULL,
  stitched_error REAL NOT NULL,
  built_with TEXT NOT NULL,
  saved_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE blocks (
  model TEXT NOT NULL REFERENCES models ON DELETE CASCADE,
  block TEXT NOT NULL,
  position INTEGER NOT NULL, -- in the order in which they run, from 0
  inputs TEXT NOT NULL,      -- names of the border values, with spaces between
  outputs TEXT NOT NULL,
  PRIMARY KEY (model, block)
) WITHOUT ROWID;

CREATE TABLE descendants (
  model TEXT NOT NULL,
  block TEXT NOT NULL,
  descendant TEXT NOT NULL,
  kind TEXT NOT NULL,
  file TEXT NOT NULL,        -- relative to the folder of the model
  file_bytes INTEGER NOT NULL,
  weight_bytes INTEGER NOT NULL,
  macs INTEGER NOT NULL,     -- multiply-accumulate operations for one picture
  sha256 TEXT NOT NULL,
  PRIMARY KEY (model, block, descendant),
  FOREIGN KEY (model, block) REFERENCES blocks ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE parameters (    -- how a descendant was made
  model TEXT NOT NULL,
  block TEXT NOT NULL,
  descendant TEXT NOT NULL,
  name TEXT NOT NULL,
  value NUMERIC NOT NULL,
  PRIMARY KEY (model, block, descendant, name),
  FOREIGN KEY (model, block, descendant) REFERENCES descendants ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE devices (
  device TEXT PRIMARY KEY,
  cpu TEXT NOT NULL,
  features TEXT NOT NULL,
  cores INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  platform TEXT NOT NULL,
  onnxruntime_version TEXT NOT NULL,
  seen_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE measurements (  -- costs of one descendant on one device
  model TEXT NOT NULL,
  block TEXT NOT NULL,
  descendant TEXT NOT NULL,
  device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE,
  input_height INTEGER NOT NULL,
  input_width INTEGER NOT NULL,
  latency_p50_ms REAL NOT NULL,
  latency_p95_ms REAL NOT NULL,
  anonymous_bytes INTEGER NOT NULL,
  mapped_bytes INTEGER NOT NULL,
  load_ms REAL NOT NULL,
  samples INTEGER NOT NULL,
  memory_method TEXT NOT NULL,
  measured_at TEXT NOT NULL,
  PRIMARY KEY (model, block, descendant, device, input_height, input_width),
  FOREIGN KEY (model, block, descendant) REFERENCES descendants ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE losses (        -- of one descendant alone, on the profile pictures
  model TEXT NOT NULL,
  block TEXT NOT NULL,
  descendant TEXT NOT NULL,
  input_height INTEGER NOT NULL,
  input_width INTEGER NOT NULL,
  quality_loss REAL NOT NULL,
  divergence REAL NOT NULL,
  output_error REAL NOT NULL,
  pictures INTEGER NOT NULL,
  PRIMARY KEY (model, block, descendant, input_height, input_width),
  FOREIGN KEY (model, block, descendant) REFERENCES descendants ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE combinations (  -- one descendant for every block, predicted and measured as a whole
  combination INTEGER PRIMARY KEY,
  model TEXT NOT NULL REFERENCES models ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices ON DELETE CASCADE,
  input_height INTEGER NOT NULL,
  input_width INTEGER NOT NULL,
  split TEXT NOT NULL CHECK (split IN ('profile', 'refit', 'report')),
  choices_sha256 TEXT NOT NULL,
  metric TEXT NOT NULL,
  predicted_quality REAL,
  predicted_quality_low REAL,
  predicted_quality_high REAL,
  predicted_divergence REAL,
  predicted_latency_ms REAL,
  predicted_memory_bytes INTEGER,
  measured_quality REAL,
  measured_fidelity REAL,
  measured_divergence REAL,
  measured_latency_ms REAL,
  measured_memory_bytes INTEGER,
  pictures INTEGER NOT NULL,
  why TEXT NOT NULL,
  measured_at TEXT NOT NULL,
  UNIQUE (model, device, input_height, input_width, split, choices_sha256)
);

CREATE TABLE combination_choices (
  combination INTEGER NOT NULL REFERENCES combinations ON DELETE CASCADE,
  model TEXT NOT NULL,
  block TEXT NOT NULL,
  descendant TEXT NOT NULL,
  PRIMARY KEY (combination, block),
  FOREIGN KEY (model, block, descendant) REFERENCES descendants ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX combination_choices_by_descendant ON combination_choices (model, block, descendant);

CREATE TABLE plans (
  plan INTEGER PRIMARY KEY AUTOINCREMENT,
  made_at TEXT NOT NULL,
  why TEXT NOT NULL,
  objective TEXT NOT NULL,
  status TEXT NOT NULL,
  memory_limit_bytes INTEGER,
  cores_limit REAL,
  memory_bytes INTEGER,
  cores REAL,
  gap REAL,
  solve_ms REAL NOT NULL
);

-- Plans, swaps and decisions are history: they stay when a model is built anew or removed.
CREATE TABLE plan_models (
  plan INTEGER NOT NULL REFERENCES plans ON DELETE CASCADE,
  model TEXT NOT NULL,
  input_height INTEGER NOT NULL,
  input_width INTEGER NOT NULL,
  predicted_quality REAL,
  predicted_quality_low REAL,
  predicted_latency_ms REAL,
  predicted_memory_bytes INTEGER,
  verified_quality REAL,
  verified_latency_ms REAL,
  verified_memory_bytes INTEGER,
  PRIMARY KEY (plan, model)
) WITHOUT ROWID;

CREATE TABLE plan_choices (
  plan INTEGER NOT NULL,
  model TEXT NOT NULL,
  block TEXT NOT NULL,
  descendant TEXT NOT NULL,
  PRIMARY KEY (plan, model, block),
  FOREIGN KEY (plan, model) REFERENCES plan_models ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE swaps (
  swap INTEGER PRIMARY KEY AUTOINCREMENT,
  swapped_at TEXT NOT NULL,
  model TEXT NOT NULL,
  from_plan INTEGER REFERENCES plans ON DELETE SET NULL,
  to_plan INTEGER REFERENCES plans ON DELETE SET NULL,
  blocks INTEGER NOT NULL,   -- how many were exchanged
  bytes INTEGER NOT NULL,
  ms REAL NOT NULL,
  why TEXT NOT NULL
);

CREATE TABLE swap_blocks (
  swap INTEGER NOT NULL REFERENCES swaps ON DELETE CASCADE,
  block TEXT NOT NULL,
  from_descendant TEXT,
  to_descendant TEXT NOT NULL,
  PRIMARY KEY (swap, block)
) WITHOUT ROWID;

CREATE TABLE decisions (
  decision INTEGER PRIMARY KEY AUTOINCREMENT,
  decided_at TEXT NOT NULL,
  action TEXT NOT NULL,
  why TEXT NOT NULL,
  plan INTEGER REFERENCES plans ON DELETE SET NULL
);

CREATE TABLE readings (      -- what was seen when it was decided; the unit is in the name
  decision INTEGER NOT NULL REFERENCES decisions ON DELETE CASCADE,
  name TEXT NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (decision, name)
) WITHOUT ROWID;

CREATE VIEW v_models AS
  SELECT m.model, m.task, count(DISTINCT b.block) AS blocks, count(d.descendant) AS descendants,
    round(m.original_bytes / 1e6, 3) AS original_megabytes, m.stitched_error, m.saved_at, m.built_with
  FROM models m LEFT JOIN blocks b USING (model) LEFT JOIN descendants d USING (model, block)
  GROUP BY m.model ORDER BY m.model;

CREATE VIEW v_blocks AS
  SELECT b.model, b.position, b.block, b.inputs, b.outputs, count(d.descendant) AS descendants
  FROM blocks b LEFT JOIN descendants d USING (model, block)
  GROUP BY b.model, b.block ORDER BY b.model, b.position;

CREATE VIEW v_descendants AS
  SELECT d.model, d.block, d.descendant, d.kind,
    (SELECT group_concat(name || '=' || value, ' ') FROM parameters p
      WHERE (p.model, p.block, p.descendant) = (d.model, d.block, d.descendant)) AS parameters,
    d.weight_bytes, d.macs,
    round(1.0 * d.weight_bytes / nullif(o.weight_bytes, 0), 3) AS weight_share,
    round(1.0 * d.macs / nullif(o.macs, 0), 3) AS mac_share,
    l.input_height, l.input_width, l.quality_loss, l.divergence, l.output_error, d.sha256
  FROM descendants d JOIN blocks b USING (model, block)
    LEFT JOIN descendants o ON (o.model, o.block, o.descendant) = (d.model, d.block, 'original')
    LEFT JOIN losses l ON (l.model, l.block, l.descendant) = (d.model, d.block, d.descendant)
  ORDER BY d.model, b.position, d.weight_bytes DESC;

CREATE VIEW v_measurements AS
  SELECT m.model, m.block, m.descendant, m.input_height, m.input_width,
    m.latency_p50_ms, m.latency_p95_ms, m.anonymous_bytes, m.mapped_bytes, m.load_ms,
    round(m.latency_p50_ms / nullif(o.latency_p50_ms, 0), 3) AS latency_share,
    m.samples, m.memory_method, m.measured_at, m.device, v.cpu, v.onnxruntime_version
  FROM measurements m JOIN devices v USING (device) JOIN blocks b USING (model, block)
    LEFT JOIN measurements o ON (o.model, o.block, o.descendant, o.device, o.input_height, o.input_width) =
      (m.model, m.block, 'original', m.device, m.input_height, m.input_width)
  ORDER BY m.model, b.position, m.latency_p50_ms DESC;

CREATE VIEW v_combinations AS
  SELECT c.combination, c.model, c.split, c.why, c.input_height, c.input_width, c.metric,
    c.predicted_quality, c.measured_quality, c.predicted_quality_low, c.predicted_quality_high, c.measured_fidelity,
    c.predicted_divergence, c.measured_divergence,
    c.predicted_latency_ms, c.measured_latency_ms, c.predicted_memory_bytes, c.measured_memory_bytes,
    (SELECT group_concat(block || ':' || descendant, ' ') FROM
      (SELECT h.block, h.descendant FROM combination_choices h JOIN blocks b USING (model, block)
        WHERE h.combination = c.combination ORDER BY b.position)) AS choices,
    c.pictures, c.measured_at, c.device
  FROM combinations c ORDER BY c.combination;

CREATE VIEW v_plans AS
  SELECT p.plan, p.made_at, p.why, p.objective, p.status, p.memory_limit_bytes, p.memory_bytes, p.cores_limit, p.cores,
    m.model, m.input_height, m.input_width, m.predicted_quality, m.predicted_quality_low, m.verified_quality,
    m.predicted_latency_ms, m.verified_latency_ms, m.predicted_memory_bytes, m.verified_memory_bytes,
    (SELECT group_concat(h.block || ':' || h.descendant, ' ') FROM plan_choices h
      WHERE (h.plan, h.model) = (p.plan, m.model)) AS choices,
    p.gap, p.solve_ms
  FROM plans p LEFT JOIN plan_models m USING (plan) ORDER BY p.plan, m.model;

CREATE VIEW v_swaps AS
  SELECT s.swap, s.swapped_at, s.model, s.from_plan, s.to_plan, s.blocks, s.bytes, s.ms, s.why,
    (SELECT group_concat(block || ':' || coalesce(from_descendant, '-') || '>' || to_descendant, ' ')
      FROM swap_blocks x WHERE x.swap = s.swap) AS changes
  FROM swaps s ORDER BY s.swap;

CREATE VIEW v_decisions AS
  SELECT d.decision, d.decided_at, d.action, d.why, d.plan,
    (SELECT group_concat(name || '=' || value, ' ') FROM readings r WHERE r.decision = d.decision) AS readings
  FROM decisions d ORDER BY d.decision;
`,
  `
-- quality lost against the original at the model's own input size, as expected by how sure that is of its answers
ALTER TABLE combinations ADD COLUMN expected_loss REAL;

DROP VIEW v_combinations;
CREATE VIEW v_combinations AS
  SELECT c.combination, c.model, c.split, c.why, c.input_height, c.input_width, c.metric,
    c.predicted_quality, c.measured_quality, c.predicted_quality_low, c.predicted_quality_high, c.measured_fidelity,
    c.expected_loss, c.predicted_divergence, c.measured_divergence,
    c.predicted_latency_ms, c.measured_latency_ms, c.predicted_memory_bytes, c.measured_memory_bytes,
    (SELECT group_concat(block || ':' || descendant, ' ') FROM
      (SELECT h.block, h.descendant FROM combination_choices h JOIN blocks b USING (model, block)
        WHERE h.combination = c.combination ORDER BY b.position)) AS choices,
    c.pictures, c.measured_at, c.device
  FROM combinations c ORDER BY c.combination;
`,
]
