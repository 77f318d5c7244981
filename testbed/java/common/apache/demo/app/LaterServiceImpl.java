// SPDX-License-Identifier: Apache-2.0
package demo.app;

import demo.LaterService;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** Answers from a timer, so that no thread of Dubbo waits. */
public final class LaterServiceImpl implements LaterService {
    private final ScheduledExecutorService timer = Executors.newScheduledThreadPool(2, task -> {
        Thread thread = new Thread(task, "later");
        thread.setDaemon(true);
        return thread;
    });

    @Override
    public CompletableFuture<String> later(String text, int millis) {
        CompletableFuture<String> answer = new CompletableFuture<>();
        timer.schedule(() -> answer.complete(text), millis, TimeUnit.MILLISECONDS);
        return answer;
    }
}
