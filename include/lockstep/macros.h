/* SPDX-License-Identifier: MIT */
/*
 * Compiler attributes behind LS_ names, and the assertion that stays on in every build.
 *
 * LS_ASSERT states what only a bug of ours can break. What a disk, a peer, a clock, an allocator or
 * a user can cause is never asserted: it is an enum ls_status.
 */
#ifndef LOCKSTEP_MACROS_H
#define LOCKSTEP_MACROS_H

#if defined(__GNUC__) || defined(__clang__)
#define LS_API                         __attribute__((visibility("default")))
#define LS_NODISCARD                   __attribute__((warn_unused_result))
#define LS_PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))
#define LS_NORETURN                    __attribute__((noreturn))
#define LS_LIKELY(x)                   __builtin_expect(!!(x), 1)
#else
#define LS_API
#define LS_NODISCARD
#define LS_PRINTF(format_at, first_at)
#define LS_NORETURN
#define LS_LIKELY(x) (!!(x))
#endif

#ifdef __cplusplus
#define LS_EXTERN_C_BEGIN                 extern "C" {
#define LS_EXTERN_C_END                   }
#define LS_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define LS_EXTERN_C_BEGIN
#define LS_EXTERN_C_END
#define LS_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

LS_EXTERN_C_BEGIN

/** The assert hook: reports `text` on standard error and aborts. Only LS_ASSERT calls it. Any
 * thread. */
LS_API LS_NORETURN void ls_assert_failed(const char *text, const char *file, int line);

LS_EXTERN_C_END

#define LS_ASSERT(condition)                                                                       \
    (LS_LIKELY(condition) ? (void)0 : ls_assert_failed(#condition, __FILE__, __LINE__))

#endif
