// What the vibration workload answers to inquiries (workloads/vibration/answers.py and product.py).
export interface EvidenceLine {
  name: string;
  order: number;
  hz: number;
  aboveDb: number;
  depth: number;
}

export interface BearingFinding {
  bearing: string;
  verdict: "fault" | "no fault of this bearing" | "cannot judge";
  fault: "N" | "OR" | "IR" | "B" | "FTF" | null;
  confidence: number | null;
  severity: string | null;
  why: string;
  lines: EvidenceLine[];
}

export type Zone = "A" | "B" | "C" | "D";

export interface Severity {
  velocityMmS: number | null;
  zone: Zone | null;
  why: string;
  /** Missing where an older workload answers, null where nobody declared the machine's group. */
  edition?: string | null;
  machineGroup?: string | null;
  /** Upper ends of zones A, B and C. */
  limitsMmS?: [number, number, number] | null;
}

export interface Indicator {
  name: string;
  strength: number;
  evidence: string;
}

export interface Remaining {
  feature: string;
  factor: number | null;
  days: number | null;
  earliestDays: number | null;
  latestDays: number | null;
  why: string;
}

export interface VibrationAsset {
  asset: string;
  machine: string;
  record: string;
  startNs: number | null;
  rateHz: number;
  samples: number;
  unit: string | null;
  rpm: number | null;
  quality: string;
  level: { rms: number; peak: number; crest: number; kurtosis: number; impulsiveness: number; highRms: number | null } | null;
  severity: Severity;
  alarm: string | null;
  alarmDistance: number | null;
  alert: string;
  alertState: string;
  bearings: BearingFinding[];
  /** Missing where an older workload answers. */
  indicators?: Indicator[];
  indicatorsMissing?: string;
  remaining?: Remaining | null;
}

export type Of = "amplitude" | "velocity" | "envelope";

export interface Orders {
  ftf: number;
  bsf: number;
  bpfo: number;
  bpfi: number;
}

export interface SpectrumAnswer {
  machine: string;
  record: string;
  startNs: number | null;
  of: Of;
  unit: string | null;
  rpm: number | null;
  firstHz: number;
  stepHz: number;
  count: number;
  values: string;
  orders: Record<string, Orders>;
  /** `parts` by the letters of the fault: the order at which its lines were found. */
  diagnoses: Record<string, { measured_shaft_hz: number; shaft_hz: number; fault: string; parts: Record<string, { order: number }> }>;
}

export interface WaveformAnswer {
  record: string;
  unit: string | null;
  firstS: number;
  stepS: number;
  low: string;
  high: string;
}

export interface WaterfallAnswer {
  machine: string;
  rows: { startNs: number; rpm: number | null; topHz: number; values: number[] }[];
}

export interface TrendOfFeature {
  alarm: string;
  points: { days: number; logLevel: number }[];
  baselines: { speedBin: number; loadBin: number; centre: number; width: number }[];
}

export interface TrendAnswer {
  machine: string;
  rms: TrendOfFeature;
  highRms: TrendOfFeature;
  warningSigmas: number;
  alarmSigmas: number;
}

export interface EvidenceItem {
  id: string;
  machine: string;
  record: string;
  rate_hz: number;
  rpm: number | null;
  unit: string | null;
  start_ns: number | null;
  samples: number;
  alerts: string[];
}
