/* SPDX-License-Identifier: MIT */
/*
 * Included before all of transport/ in the simulator's build of it: these functions of libsodium
 * are those of cipher.c there, and the entry has a name of its own.
 */
#ifndef LOCKSTEP_SIM_CIPHER_H
#define LOCKSTEP_SIM_CIPHER_H

#define sodium_malloc sim_sodium_malloc
#define sodium_free   sim_sodium_free

#define crypto_scalarmult           sim_crypto_scalarmult
#define crypto_scalarmult_base      sim_crypto_scalarmult_base
#define crypto_sign_detached        sim_crypto_sign_detached
#define crypto_sign_verify_detached sim_crypto_sign_verify_detached
#define crypto_secretstream_xchacha20poly1305_init_pull                                            \
    sim_crypto_secretstream_xchacha20poly1305_init_pull
#define crypto_secretstream_xchacha20poly1305_push sim_crypto_secretstream_xchacha20poly1305_push
#define crypto_secretstream_xchacha20poly1305_pull sim_crypto_secretstream_xchacha20poly1305_pull

#define ls__tcp_open_over sim_links_open

#endif
