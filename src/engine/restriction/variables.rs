//! Variables that make a loader, an interpreter or a common tool run other code or use other files.
//!
//! Four sources, each checked by name: what glibc removes from the environment of a set-user-ID
//! program (`sysdeps/generic/unsecvars.h`) with musl's and other loaders' of the same prefix; what
//! sudo removes (`initial_badenv_table` in `plugins/sudoers/env.c`); what the manuals of
//! interpreters and run-times list as taken at their start; and what tools document as a command
//! that they run, or as options that can name one. Where a prefix is an interpreter's own, all of
//! it counts.

/// Names that begin with one of these.
const PREFIXES: [&str; 17] = [
    // Loaders and C libraries.
    "LD_",
    "_RLD",
    "GCONV_PATH",
    "GLIBC_",
    "MALLOC_",
    // Functions that bash imports.
    "BASH_FUNC_",
    // Interpreters and run-times.
    "PYTHON",
    "PERL",
    "RUBY",
    "LUA_",
    "GUILE_",
    "JULIA_",
    "DOTNET_",
    "CORECLR_",
    "COR_PROFILER",
    // A library that loads modules.
    "OPENSSL_",
    // Git's configuration by variables, which can name commands.
    "GIT_CONFIG",
];

/// Whole names, sorted.
const NAMES: [&str; 102] = [
    "AWKLIBPATH",
    "AWKPATH",
    "BASHOPTS",
    "BASH_ENV",
    "BROWSER",
    "CDPATH",
    "CLASSPATH",
    "CVS_RSH",
    "EDITOR",
    "EMACSLOADPATH",
    "ENV",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_LIBS",
    "ERL_ZFLAGS",
    "FPATH",
    "GEM_HOME",
    "GEM_PATH",
    "GETCONF_DIR",
    "GIO_EXTRA_MODULES",
    "GIO_MODULE_DIR",
    "GIT_ASKPASS",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR",
    "GLOBIGNORE",
    "GREP_OPTIONS",
    "GST_PLUGIN_PATH",
    "GTK_MODULES",
    "GTK_PATH",
    "HOSTALIASES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESS",
    "LESSCLOSE",
    "LESSKEY",
    "LESSOPEN",
    "LOCALDOMAIN",
    "LOCPATH",
    "MAKEFILES",
    "MAKEFLAGS",
    "MANPAGER",
    "NIS_PATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "NODE_V8_COVERAGE",
    "NULLCMD",
    "PAGER",
    "PATH_LOCALE",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS4",
    "QT_PLUGIN_PATH",
    "READNULLCMD",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "RSYNC_CONNECT_PROG",
    "RSYNC_RSH",
    "RUSTC_WRAPPER",
    "R_ENVIRON",
    "R_ENVIRON_USER",
    "R_HOME",
    "R_LIBS",
    "R_LIBS_SITE",
    "R_LIBS_USER",
    "R_PROFILE",
    "R_PROFILE_USER",
    "SHELLOPTS",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "SUDO_EDITOR",
    "SVN_SSH",
    "TAPE",
    "TAR_OPTIONS",
    "TCLLIBPATH",
    "TCL_LIBRARY",
    "TERMCAP",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TERMPATH",
    "TMPDIR",
    "TMPPREFIX",
    "TZDIR",
    "VIMINIT",
    "VISUAL",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
    "npm_config_node_options",
    "npm_config_script_shell",
    "npm_config_userconfig",
];

/// Whether a variable is one of them. A function as a value, as old shells export them, is code
/// under any name.
pub(super) fn runs_code(name: &[u8], value: &[u8]) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        || NAMES.binary_search_by(|known| known.as_bytes().cmp(name)).is_ok()
        || value.starts_with(b"()")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UNSECURE_ENVVARS` of glibc 2.41, of all architectures.
    const GLIBC: &str = "GCONV_PATH GETCONF_DIR GLIBC_TUNABLES HOSTALIASES LD_AUDIT LD_BIND_NOT LD_BIND_NOW LD_DEBUG \
        LD_DEBUG_OUTPUT LD_DYNAMIC_WEAK LD_LIBRARY_PATH LD_ORIGIN_PATH LD_PRELOAD LD_PROFILE LD_PROFILE_OUTPUT LD_SHOW_AUXV \
        LD_VERBOSE LD_WARN LOCALDOMAIN LOCPATH MALLOC_ARENA_MAX MALLOC_ARENA_TEST MALLOC_MMAP_MAX_ MALLOC_MMAP_THRESHOLD_ \
        MALLOC_PERTURB_ MALLOC_TOP_PAD_ MALLOC_TRACE MALLOC_TRIM_THRESHOLD_ NIS_PATH NLSPATH RESOLV_HOST_CONF RES_OPTIONS TMPDIR \
        TZDIR";
    /// `initial_badenv_table` of sudo 1.9, patterns by an example.
    const SUDO: &str = "IFS CDPATH LOCALDOMAIN RES_OPTIONS HOSTALIASES NLSPATH PATH_LOCALE LD_X _RLD_X TERMINFO TERMINFO_DIRS \
        TERMPATH TERMCAP ENV BASH_ENV PS4 GLOBIGNORE BASHOPTS SHELLOPTS JAVA_TOOL_OPTIONS PERLIO_DEBUG PERLLIB PERL5LIB PERL5OPT \
        PERL5DB FPATH NULLCMD READNULLCMD ZDOTDIR TMPPREFIX PYTHONHOME PYTHONPATH PYTHONINSPECT PYTHONUSERBASE RUBYLIB RUBYOPT";
    const INTERPRETERS: &str = "PYTHONSTARTUP PYTHONPLATLIBDIR NODE_OPTIONS NODE_PATH LUA_INIT LUA_INIT_5_4 LUA_CPATH _JAVA_OPTIONS \
        JDK_JAVA_OPTIONS CLASSPATH PHPRC R_PROFILE_USER DOTNET_STARTUP_HOOKS CORECLR_PROFILER_PATH GIT_SSH_COMMAND \
        GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 OPENSSL_CONF TAR_OPTIONS LESSOPEN BASH_FUNC_ls%% MAKEFLAGS";

    #[test]
    fn the_sources_are_covered() {
        for name in [GLIBC, SUDO, INTERPRETERS].into_iter().flat_map(str::split_whitespace) {
            assert!(runs_code(name.as_bytes(), b"x"), "{name}");
        }
        assert!(NAMES.is_sorted(), "they are searched by halves");
        assert!(runs_code(b"x", b"() { :;}; echo"));
    }

    #[test]
    fn needed_variables_are_not_refused() {
        let common = "PATH HOME USER LOGNAME SHELL LANG LC_ALL LANGUAGE TZ TERM PWD HOSTNAME DISPLAY XDG_RUNTIME_DIR NODE_ENV \
            GIT_AUTHOR_NAME PROCSTAR_JOB LDX ENVIRONMENT PERM RAILS_ENV PYTH";
        for name in common.split_whitespace() {
            assert!(!runs_code(name.as_bytes(), b"x"), "{name}");
        }
    }
}
