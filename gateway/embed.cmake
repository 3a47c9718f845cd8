# SPDX-License-Identifier: Apache-2.0
# cmake -DIN=FILE -DOUT=FILE.c -DNAME=SYMBOL -P embed.cmake: a file as a C array
# that ends in NUL.
file(READ ${IN} _hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" _hex "${_hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," _hex "${_hex}")
file(WRITE ${OUT} "/* Made from ${IN}. */
extern const unsigned char ${NAME}[];
const unsigned char ${NAME}[] = {
${_hex}0};
")
