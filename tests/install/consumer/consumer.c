/* SPDX-License-Identifier: MIT */
/* A program outside the tree: sees the installed headers only, links and runs. */
#include <lockstep/lockstep.h>
#include <stdio.h>

int main(void)
{
    struct ls_error error = {LS_OK, ""};
    enum ls_status status = ls_error_set(&error, LS_ERR_BUSY, "version %s", ls_version());
    printf("lockstep: %s: %s\n", ls_status_text(status), error.text);
    return status == LS_ERR_BUSY && error.text[0] != '\0' ? 0 : 1;
}
