-- The memory and the descriptors of the process, which Linux offers as files.
function main(env, con)
    local found = {}
    local names = {
        "/proc/self/mem", "/proc/self/mem\0.txt", "//proc//self/./mem", "/proc/self/mem/.", "/proc/thread-self/mem",
        "/proc/self/fd/../mem", "/dev/fd/../mem", "../../../../../../../../../../proc/self/mem", "/proc/self/root/proc/self/mem",
        "/var/lock/../../proc/self/mem", "/proc/self/fd/0", "/proc/self/fd/1", "/dev/fd/1", "/proc/self/task/../fd/1",
    }
    for _, name in ipairs(names) do
        for _, mode in ipairs { "r", "r+b", "a" } do
            local file = io.open(name, mode)
            if file then found[#found + 1] = "io.open " .. name end
        end
        for _, way in ipairs { "input", "output", "lines" } do
            if pcall(io[way], name) then found[#found + 1] = "io." .. way .. " " .. name end
        end
    end
    for _, name in ipairs { "/dev/null", "/proc/self/status", "/proc/meminfo" } do
        if not io.open(name) then found[#found + 1] = "no " .. name end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
