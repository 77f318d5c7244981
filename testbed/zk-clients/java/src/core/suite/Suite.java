// SPDX-License-Identifier: Apache-2.0
package suite;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;

/** Runs named checks against an address and prints how many passed. */
final class Suite {
    interface Check {
        void run() throws Exception;
    }

    private int passed;
    private final List<String> failed = new ArrayList<>();

    void check(String name, Check check) {
        try {
            check.run();
            passed++;
        } catch (Throwable t) {
            failed.add(name);
            System.out.println("FAILED " + name + ": " + t);
            StackTraceElement[] at = t.getStackTrace();
            for (int i = 0; i < Math.min(4, at.length); i++) {
                System.out.println("    " + at[i]);
            }
        }
    }

    void end() {
        System.out.println(passed + " passed, " + failed.size() + " failed");
        System.exit(failed.isEmpty() ? 0 : 1);
    }

    static void want(boolean is, String what) {
        if (!is) {
            throw new AssertionError(what);
        }
    }

    static void wantSame(Object is, Object wanted) {
        want(wanted.equals(is), is + " instead of " + wanted);
    }

    static void wantError(Class<?> kind, Callable<?> call) throws Exception {
        try {
            call.call();
        } catch (Exception e) {
            want(kind.isInstance(e), e + " instead of " + kind);
            return;
        }
        throw new AssertionError("no " + kind);
    }

    static void eventually(String what, Callable<Boolean> fact) throws Exception {
        long until = System.nanoTime() + 20_000_000_000L;
        while (!fact.call()) {
            want(System.nanoTime() < until, "not in time: " + what);
            Thread.sleep(20);
        }
    }
}
