/* SPDX-License-Identifier: MIT */
typedef int ls_placeholder_storage;
