/* SPDX-License-Identifier: MIT */
/* Gives way to ls_message_invalid() of consensus/ where that is linked. */
#include <lockstep/core.h>

__attribute__((weak)) const char *ls_message_invalid(const struct ls_message *message)
{
    return message->term == 0 ? "a message without a term" : NULL;
}
