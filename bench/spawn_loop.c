/* Baseline of process figures: N times posix_spawn with both outputs in pipes, read to the end, and wait4. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

extern char **environ;

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 300;
    char *child_argv[] = {"/usr/bin/true", NULL};
    char buf[4096];
    for (int i = 0; i < n; i++) {
        int out[2], err[2], status;
        struct rusage usage;
        pid_t pid;
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) return 1;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        posix_spawn_file_actions_adddup2(&actions, err[1], 2);
        posix_spawnattr_init(&attr);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
        if (posix_spawn(&pid, child_argv[0], &actions, &attr, child_argv, environ)) return 1;
        close(out[1]);
        close(err[1]);
        while (read(out[0], buf, sizeof buf) > 0) {}
        while (read(err[0], buf, sizeof buf) > 0) {}
        close(out[0]);
        close(err[0]);
        if (wait4(pid, &status, 0, &usage) != pid || status != 0) return 1;
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attr);
    }
    return 0;
}
