// SPDX-License-Identifier: Apache-2.0
package golden;

import java.io.ByteArrayInputStream;
import java.util.Arrays;
import java.util.Date;
import java.util.List;

/** Values that have nothing inside. */
final class Scalars {
    private static final String EMOJI = "\ud83d\ude00";

    static void write(Golden golden) throws Exception {
        golden.scalars("null-and-booleans", "null, true, false", null, true, false);
        golden.scalars("ints", "the borders of each width",
                0, 1, -1, -16, 47, -17, 48, -2048, 2047, -2049, 2048, -262144, 262143, -262145, 262144,
                Integer.MIN_VALUE, Integer.MAX_VALUE);
        golden.scalars("longs", "the borders of each width",
                0L, 1L, -1L, -8L, 15L, -9L, 16L, -2048L, 2047L, -2049L, 2048L, -262144L, 262143L, -262145L, 262144L,
                -2147483648L, 2147483647L, -2147483649L, 2147483648L, Long.MIN_VALUE, Long.MAX_VALUE);
        golden.scalars("doubles", "the borders of each width",
                0.0, -0.0, 1.0, -1.0, -128.0, 127.0, -129.0, 128.0, -32768.0, 32767.0, -32769.0, 32768.0, 1.5, 0.001,
                12345.678, 2147483.647, 2147483.648, 0.1, 3.141592653589793, 1.0E-5, 1.0E300, 0.5, 16777217.0,
                3.4028234663852886E38, Double.MIN_VALUE, Double.MAX_VALUE,
                Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY);
        golden.objects("boxes", "(byte) 5, (short) 500, 'x', 2.5f", (byte) 5, (short) 500, 'x', 2.5f, 0.1f);
        golden.scalars("dates", "whole minutes and not, near and far",
                new Date(0), new Date(60000), new Date(-60000), new Date(1), new Date(-1), new Date(894621091000L),
                new Date(894621060000L), new Date(2147483647L * 60000), new Date(2147483648L * 60000),
                new Date(-2147483648L * 60000), new Date(-2147483649L * 60000),
                new Date(Long.MAX_VALUE), new Date(Long.MIN_VALUE));
        strings(golden);
        binaries(golden);
    }

    private static void strings(Golden golden) throws Exception {
        golden.scalars("strings-short", "the widths of one character, and of both short lengths",
                "", "a", "hello", "w\u00f6rld", "\u4f60\u597d", EMOJI, "a" + EMOJI + "b", "\0", "\u007f\u0080\u07ff\u0800\uffff",
                "a".repeat(31), "a".repeat(32), "\u4f60".repeat(31), "\u4f60".repeat(32), "quote\"back\\slash+star*");
        golden.scalars("strings-lone-surrogate", "halves of a pair alone, and in the wrong order",
                "\ud83d", "\ude00", "\ude00\ud83d", "a\ud83db");
        golden.scalars("strings-1023", "1023, 1024 units", "a".repeat(1023), "b".repeat(1024), "\u00fc".repeat(1023), "\u00fc".repeat(1024));
        golden.scalars("strings-32768", "32767, 32768, 32769 units",
                "a".repeat(32767), "b".repeat(32768), "c".repeat(32769));
        golden.scalars("strings-65536", "65535, 65536, 65537 units", "a".repeat(65535), "b".repeat(65536), "c".repeat(65537));
        golden.scalars("string-pair-at-chunk-border", "a surrogate pair over the end of the first chunk",
                "a".repeat(32767) + EMOJI + "b".repeat(40000));
        golden.scalars("string-pair-before-chunk-border", "a surrogate pair that just fits into the first chunk",
                "a".repeat(32766) + EMOJI + "b".repeat(10));
        golden.scalars("string-lone-at-chunk-border", "a high surrogate alone at the end of the first chunk",
                "a".repeat(32767) + "\ud83d" + "b".repeat(10));
        golden.objects("string-likes", "StringBuilder, char[], Character[]",
                new StringBuilder("builder"), "chars".toCharArray(), new Character[] {'x', '\u4f60'});
    }

    private static void binaries(Golden golden) throws Exception {
        for (int length : new int[] {0, 1, 15, 16, 1023, 1024, 8176, 8189, 8190, 32768, 32769, 70000}) {
            golden.objects("binary-" + length, "byte[" + length + "]", bytes(length), "next");
        }
        Out out = golden.out();
        out.object("a first value").object(bytes(9000)).object(bytes(9000));
        golden.save("binary-after-others", "\"a first value\", byte[9000] twice", List.of(), out.bytes());
        golden.objects("binary-stream", "an InputStream of 9000 bytes", new ByteArrayInputStream(bytes(9000)), "next");
    }

    private static byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        Arrays.fill(bytes, (byte) 0x5a);
        if (length > 0) {
            bytes[length - 1] = 0x01;
        }
        return bytes;
    }
}
