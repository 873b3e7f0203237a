// Roles in words, and as people type them: what somebody may do, and where.
import type { RoleBinding } from "../api/types";

/** `operator at hamburg`; no place means everywhere. */
export function roleText(role: RoleBinding): string {
  const where = [placeText(role), expressionText(role)].filter(Boolean).join(", ");
  return where ? `${role.role} at ${where}` : `${role.role} everywhere`;
}

/** What each role does, for who hands them out. */
export const ROLES: Record<RoleBinding["role"], string> = {
  viewer: "looks",
  operator: "also applies documents and rolls out",
  "ot-engineer": "also sets parameters, approves for OT, publishes",
  "it-engineer": "also admits nodes, approves for IT, publishes",
  admin: "looks, and manages accounts",
};

/** A role as it is edited: `place` is typed, what only documents can say stays as it is. */
export interface RoleRow {
  role: RoleBinding["role"];
  place: string;
  kept: NonNullable<RoleBinding["sites"]>["matchExpressions"];
}

export const rowsOf = (roles: RoleBinding[]): RoleRow[] =>
  roles.map((one) => ({ role: one.role, place: placeText(one), kept: one.sites?.matchExpressions ?? [] }));

export function bindingsOf(rows: RoleRow[]): RoleBinding[] {
  return rows.map(({ role, place, kept }) => {
    const parts = place.split(/[\s,]+/).filter(Boolean);
    if (place.trim() && !parts.length) throw new Error(`"${place}" names no site and no label; leave it empty for everywhere.`);
    const labels = parts.filter((part) => part.includes("=")).map((part) => part.split(/=(.*)/s).slice(0, 2) as [string, string]);
    return { role, sites: { sites: parts.filter((part) => !part.includes("=")), matchLabels: Object.fromEntries(labels), matchExpressions: kept } };
  });
}

function placeText(role: RoleBinding): string {
  const { sites = [], matchLabels = {} } = role.sites ?? {};
  return [...sites, ...Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`)].join(", ");
}

export function expressionText(role: RoleBinding): string {
  return (role.sites?.matchExpressions ?? []).map((one) => `${one.key} ${one.operator} ${(one.values ?? []).join(" ")}`.trim()).join(", ");
}
