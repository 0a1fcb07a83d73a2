/** Rows of the matrix: each entry of the manifest on each of its machines and hosts, and which of them are asked for. */
import { OperatorError } from '../../../shim/observe/errors.js';
import type { Manifest, MatrixEntry } from '../../../vm-images/manifest.js';
import { courses, type CourseEntry } from './courses.js';

export interface Row {
  /** Name of the entry. */
  readonly guest: string;
  /** A lab host of the manifest, or `native`: this machine's own KVM. */
  readonly host: string;
  readonly machine: 'pc' | 'q35';
  readonly entry: MatrixEntry;
  readonly course: CourseEntry;
  /** Names of the steps it must show. */
  readonly steps: readonly string[];
}

export interface Selection {
  /** Names to choose from; each may be left out, and then nothing is left out. */
  readonly guests?: readonly string[] | undefined;
  readonly hosts?: readonly string[] | undefined;
  readonly machines?: readonly string[] | undefined;
  /** Guests that are not part of `npm test`, too, when no guest is named. */
  readonly all?: boolean;
  /** Whether this machine's KVM serves when no host is named. */
  readonly native?: boolean;
}

export const NATIVE = 'native';

/** @throws OperatorError for a name that is not in the manifest, and for a selection that leaves nothing */
export function selectRows(manifest: Manifest, selection: Selection): Row[] {
  const { guests, machines, all = false, native = false } = selection;
  known('guest', guests, Object.keys(manifest.matrix));
  known('host', selection.hosts, [...Object.keys(manifest.hosts), NATIVE]);
  known('machine', machines, ['pc', 'q35']);
  const hosts = selection.hosts ?? (native ? [NATIVE] : undefined);
  const rows = Object.entries(manifest.matrix)
    .filter(([guest, { usual }]) => guests?.includes(guest) ?? (all || usual))
    .flatMap(([guest, entry]) => {
      const course = courseOf(guest, entry);
      const on = hosts?.filter((host) => host === NATIVE || entry.hosts.includes(host)) ?? entry.hosts;
      return on.flatMap((host) => entry.machines.map((machine): Row =>
        ({ guest, host, machine, entry, course, steps: entry.steps ?? Object.keys(course.titles) })));
    })
    .filter(({ machine }) => machines?.includes(machine) ?? true);
  if (rows.length > 0) return rows;
  throw new OperatorError('NO_ROWS', 'no guest of the manifest runs on such a host and machine',
    `leave --host or --machine out; vm-images/manifest.toml says what goes together`);
}

function courseOf(guest: string, { course: name, steps }: MatrixEntry): CourseEntry {
  const course = Object.hasOwn(courses, name) ? courses[name] : undefined;
  if (course === undefined) {
    throw new OperatorError('MANIFEST', `matrix.${guest}: there is no course "${name}"`, `use ${Object.keys(courses).join(', ')}`);
  }
  const unknown = steps?.find((step) => !Object.hasOwn(course.titles, step));
  if (unknown !== undefined) {
    throw new OperatorError('MANIFEST', `matrix.${guest}: the course "${name}" has no step "${unknown}"`,
      `use ${Object.keys(course.titles).join(', ')}`);
  }
  return course;
}

function known(what: string, names: readonly string[] | undefined, all: readonly string[]): void {
  const unknown = names?.find((name) => !all.includes(name));
  if (unknown === undefined) return;
  throw new OperatorError(`${what.toUpperCase()}_UNKNOWN`, `there is no ${what} "${unknown}"`, `use ${all.join(', ')}`);
}

/** Name of a row's files, and what tells it from others of its host. */
export const rowName = ({ guest, machine }: Pick<Row, 'guest' | 'machine'>): string => `${guest}-${machine}`;
