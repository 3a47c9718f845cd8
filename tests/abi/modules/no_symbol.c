/* SPDX-License-Identifier: Apache-2.0 */
/* A shared object that is no plugin. */
extern const int not_a_driver;
__attribute__((visibility("default"))) const int not_a_driver = 1;
