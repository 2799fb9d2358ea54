/*
 * Which node is near which. The question is mm_node_near(), in mm/mm.h.
 */
#ifndef MM_NODES_H
#define MM_NODES_H

#include "mm/mm.h"

/* Sorts the nodes by the distances of the configuration. Before the backend's own init. */
void nodes_init(const struct mm_config *cfg);

#endif
