/** What can be done with a guest: the courses that entries of the manifest name, with what each needs and its steps. */
import type { GuestRunOptions } from '../../../cli/demo/guest-run.js';
import type { Report } from '../../../cli/demo/report.js';
import { runCourse, type Course, type Session } from '../../../cli/demo/session.js';
import type { MatrixEntry } from '../../../vm-images/manifest.js';
import { blockCourse, blockDisks, blockTitles, exampleOptions } from '../block-course.js';
import { fifoCourse, fifoOptions, fifoTitles } from '../fifo-course.js';
import { formatsCourse, formatsTitles } from '../formats-course.js';
import { enterGrub, grubCourse, grubTitles } from '../grub-course.js';
import { linuxCourse, linuxTitles } from '../linux-course.js';
import { netCourse, netKernelArguments, netOptions, netTitles } from '../net-course.js';
import { pagedCourse, pagedSetup, pagedTitles } from '../paged-course.js';

export interface CourseEntry {
  /** What each step shows, in the report's order. */
  readonly titles: Readonly<Record<string, string>>;
  /** How the guest is started for it. */
  readonly setup: Partial<GuestRunOptions & Pick<Session, 'enter'>>;
  /** Runs a guest through those steps of the course that the session names. */
  run(session: Session<string>, entry: MatrixEntry): Promise<Report>;
}

function entry<Name extends string>(
  course: (entry: MatrixEntry) => Course<Name>,
  titles: Readonly<Record<Name, string>>,
  setup: CourseEntry['setup'] = {},
): CourseEntry {
  return { titles, setup, run: (session, entry) => runCourse(session as Session<Name>, course(entry)) };
}

export const courses: Readonly<Record<string, CourseEntry>> = {
  linux: entry(({ stress }) => linuxCourse(stress), linuxTitles),
  disks: entry(() => blockCourse, blockTitles, { disks: blockDisks, xenOptions: exampleOptions }),
  formats: entry(() => formatsCourse, formatsTitles),
  net: entry(() => netCourse, netTitles, { vifOptions: netOptions, kernelArguments: netKernelArguments }),
  grub: entry(() => grubCourse, grubTitles, { enter: enterGrub }),
  fifo: entry(() => fifoCourse, fifoTitles, { xenOptions: fifoOptions }),
  paged: entry(() => pagedCourse, pagedTitles, pagedSetup),
};
