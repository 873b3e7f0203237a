// Roles in words: what somebody may do, and where.
import type { RoleBinding } from "../api/types";

/** `operator at hamburg`; no place means everywhere. */
export function roleText(role: RoleBinding): string {
  const { sites = [], matchLabels = {}, matchExpressions = [] } = role.sites ?? {};
  const where = [
    ...(sites.length ? [sites.join(", ")] : []),
    ...Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`),
    ...matchExpressions.map((one) => `${one.key} ${one.operator} ${(one.values ?? []).join(" ")}`.trim()),
  ];
  return where.length ? `${role.role} at ${where.join(", ")}` : `${role.role} everywhere`;
}
