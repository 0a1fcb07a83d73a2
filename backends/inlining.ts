/**
 * The loops of backends are many small methods, one class for each idea. V8 stops putting methods into one another when
 * what it has put together has grown to a size that suits web pages: at 920 bytes of bytecode half of a loop's
 * calls stay calls, at a sixth to a quarter of its time (docs/decisions/0019). Imported for its effect, before any loop runs.
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--max-inlined-bytecode-size-cumulative=5000');
