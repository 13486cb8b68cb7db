-- The descriptors and the memory of the process as Lua source, and by os.rename: by every way to a file.
function main(env, con)
    local found = {}
    local names = {
        "/proc/self/fd/0", "/proc/self/fd/1", "/proc/thread-self/fd/0", "/proc/self/fd/../mem", "/dev/fd/0", "/dev/stdin",
        "//dev///stdin", "/proc/self/map_files", "/proc/self/root/etc/hostname", "/proc/self/cwd/page.lua", "/proc/kcore",
        "../../../../../../../../../../../../dev/stdin", "/proc/self/fd/0\0.lua",
    }
    for _, name in ipairs(names) do
        if loadfile(name) then found[#found + 1] = "loadfile " .. name end
        local ok, problem = pcall(dofile, name)
        if ok or not problem:find("Permission denied", 1, true) then found[#found + 1] = "dofile " .. tostring(problem) end
        if os.rename(name, "moved") then found[#found + 1] = "rename " .. name end
        package.path = name
        if pcall(require, "nothing") then found[#found + 1] = "require " .. name end
        if package.searchpath and package.searchpath("nothing", name) then found[#found + 1] = "searchpath " .. name end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
