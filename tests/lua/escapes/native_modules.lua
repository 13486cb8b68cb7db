-- Libraries of machine code, where the operator has allowed none.
function main(env, con)
    local found = {}
    if package.loadlib then found[#found + 1] = "package.loadlib" end
    local searchers = package.searchers or package.loaders
    if #searchers > 2 then found[#found + 1] = #searchers .. " searchers" end
    local file = assert(io.open("native.so", "wb"))
    file:write("\127ELF")
    file:close()
    package.cpath = "./?.so;" .. (debug.getinfo(1, "S").source:match("^@(.*)/") or ".") .. "/?.so"
    local ok, problem = pcall(require, "native")
    if ok or problem:find("native.so: ", 1, true) or problem:find("ELF", 1, true) or problem:find("too short", 1, true) then
        found[#found + 1] = "opened: " .. tostring(problem)
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
