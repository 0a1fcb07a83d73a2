/** What a guest run showed: the steps, as text for people and as JSON for programs. */

export interface StepResult {
  readonly name: string;
  readonly ok: boolean;
  readonly seconds: number;
  /** What was observed; for a failed step, what was missing. */
  readonly detail: string;
}

export interface Report {
  /** Distribution, as the guest's /etc/os-release names it. */
  readonly guest: string;
  /** `uname -r` in the guest. */
  readonly kernel: string;
  /** How hypercalls reach xenshim on this host: `kvm-xen`. */
  readonly mode: string;
  /** What the guest's kernel says it runs on. */
  readonly hypervisor: string;
  /** QEMU machine type, vCPUs and MiB of RAM. */
  readonly machine: string;
  readonly steps: readonly StepResult[];
  /** Boots it took; more than one only in the lab (see cli/demo/session.ts). */
  readonly attempts: number;
  readonly ok: boolean;
}

/** One line per step. */
export function stepLine(step: StepResult): string {
  return `  ${step.ok ? 'ok    ' : 'FAILED'} ${step.name.padEnd(12)} ${step.seconds.toFixed(1).padStart(5)} s  ${step.detail}`;
}

/** The readable report. */
export function reportText(report: Report): string {
  const passed = report.steps.filter((step) => step.ok).length;
  return [
    `${report.guest}, kernel ${report.kernel}, on ${report.hypervisor} (${report.machine}, mode ${report.mode})`,
    ...report.steps.map(stepLine),
    ...(report.attempts > 1 ? [`boots needed: ${report.attempts} (see the output above)`] : []),
    report.ok ? `all ${passed} steps passed` : `${report.steps.length - passed} of ${report.steps.length} steps failed`,
    '',
  ].join('\n');
}
