/* SPDX-License-Identifier: MIT */
/*
 * What a build with a mutant sees instead of `LS_MUTANT(id)` = 0: LS_MUTANT(E2) is 1 if
 * LS_MUTANT_E2 is defined as 1, else 0. Assertions are off in what it changes, so that the checks
 * of the simulator have to notice. Normal builds never include this file.
 */
#ifndef LOCKSTEP_MUTANT_H
#define LOCKSTEP_MUTANT_H

#include <lockstep/macros.h>

#undef LS_ASSERT
#define LS_ASSERT(condition) ((void)(condition))

#undef LS_MUTANT
#define LS_MUTANT(id)                          LS_MUTANT_EXPANDED(LS_MUTANT_##id)
#define LS_MUTANT_EXPANDED(value)              LS_MUTANT_JOINED(value)
#define LS_MUTANT_JOINED(value)                LS_MUTANT_PASTED(LS_MUTANT_COMMA_##value)
#define LS_MUTANT_PASTED(comma_or_word)        LS_MUTANT_CHOICE(comma_or_word 1, 0, 0)
#define LS_MUTANT_CHOICE(ignored, chosen, ...) chosen
#define LS_MUTANT_COMMA_1                      0,

#endif
