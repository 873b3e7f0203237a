// What a virtual PLC answers to inquiries (workloads/vplc/inquiries.py). Times named Ns are nanoseconds.
export type Plain = boolean | number | string | null | Plain[];

export interface Histogram {
  count: number;
  p50_ns: number | null;
  p99_ns: number | null;
  p999_ns: number | null;
  max_ns: number;
  /** [from, to, count]; only those that hold something. */
  buckets: [number, number, number][];
}

export interface Task {
  name: string;
  state: "run" | "fault";
  priority: number;
  interval_ns: number;
  watchdog_ns: number;
  scans: number;
  missed: number;
  overruns: number;
  execution_last_ns: number;
  latency: Histogram;
  execution: Histogram;
  fault: { kind: string; program: string; pou: string; line: number; message: string } | null;
}

export interface Driver {
  name: string;
  kind: string;
  device: string;
  write: boolean;
  state: string;
  reason: string;
  since_unix_ns: number;
  outputs: string;
  counters: Record<string, number>;
  round_trip_us: { p50: number | null; p99: number | null; max: number | null };
  groups: { what: string; good: boolean; why: string }[];
}

export interface JournalEntry {
  n: number;
  at: string;
  who: string;
  what: string;
  path?: string;
  value?: Plain;
}

export interface ProgramStatus {
  alive: boolean;
  phase: string;
  core: number | null;
  fifo_priority: number | null;
  memory_locked: boolean;
  started_unix_ns: number;
  heartbeat_age_ns: number;
  retain_saves: number;
  retain_failures: number;
  version: number;
  rollbacks: number;
  forces: number;
  alarms: string[];
  pair: { duty: string; role: string; epoch: number; ready: boolean; takeovers: number; reason: string } | null;
  tasks: Task[];
  program: string;
  /** Missing where an older workload answers. */
  drivers?: Driver[];
  forced?: Record<string, Plain>;
  journal?: JournalEntry[];
}

export interface Variable {
  path: string;
  program: string | null;
  type: string;
  base: string;
  address: string | null;
  retain: boolean;
  constant: boolean;
  settable: boolean;
  forcible: boolean;
}

export interface VariablesPage {
  total: number;
  offset: number;
  variables: Variable[];
}

export interface SourceFile {
  name: string;
  /** null: too large for one answer. */
  text: string | null;
}

export interface Source {
  program: string;
  files: SourceFile[];
}

export interface Watched {
  time_ns: number;
  values: Record<string, Plain>;
  error?: string;
}

export interface Report {
  passed: boolean;
  tests?: { passed: boolean }[];
  simulation?: { checks?: { name: string; passed: boolean; text: string; wanted: string }[] };
}
