/* Baseline for figures of processes: N times posix_spawn with a session and both outputs in files,
   which are read and removed after wait4; up to 64 processes at a time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AT_ONCE = 64 };

extern char **environ;

struct running {
    pid_t pid;
    int files[2];
    char names[2][32];
};

static int start(struct running *slot, int number) {
    char *argv[] = {"/usr/bin/true", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
    for (int i = 0; i < 2; i++) {
        snprintf(slot->names[i], sizeof slot->names[i], "%d.%d", number, i + 1);
        slot->files[i] = open(slot->names[i], O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
        if (slot->files[i] < 0) return 1;
        posix_spawn_file_actions_adddup2(&actions, slot->files[i], i + 1);
    }
    int failed = posix_spawn(&slot->pid, argv[0], &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return failed;
}

static int finish(struct running *slots) {
    char buf[4096];
    int status;
    struct rusage usage;
    pid_t pid = wait4(-1, &status, 0, &usage);
    if (pid < 0 || status != 0) return 1;
    while (slots->pid != pid) slots++;
    for (int i = 0; i < 2; i++) {
        for (off_t at = 0, got; (got = pread(slots->files[i], buf, sizeof buf, at)) > 0; at += got) {}
        close(slots->files[i]);
        unlink(slots->names[i]);
    }
    slots->pid = 0;
    return 0;
}

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 300;
    static struct running slots[AT_ONCE];
    int running = 0;
    for (int i = 0; i < n; i++) {
        if (running == AT_ONCE) {
            if (finish(slots)) return 1;
            running--;
        }
        struct running *slot = slots;
        while (slot->pid) slot++;
        if (start(slot, i)) return 1;
        running++;
    }
    while (running-- > 0)
        if (finish(slots)) return 1;
    return 0;
}
