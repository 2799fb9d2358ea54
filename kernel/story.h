/* What Limpid is for, told by running it. */
#ifndef KERNEL_STORY_H
#define KERNEL_STORY_H

#include "lib/base.h"

/*
 * Topology, zones, a guest with a secret that lives and dies, the scrub, a guest that looks for
 * the secret in the same memory, and who scrubbed what. False if a part could not be told, or if
 * the second guest found anything.
 */
bool story_tell(void);

#endif
