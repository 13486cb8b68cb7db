-- The end of the process that serves everybody.
function main(env, con)
    local found = {}
    for _, arguments in ipairs { {}, { 7 }, { true }, { false, true }, { 7, true } } do
        local ok, problem = pcall(os.exit, (unpack or table.unpack)(arguments))
        if ok or type(problem) ~= "string" or not problem:find("os.exit is not available to scripts", 1, true) then
            found[#found + 1] = tostring(problem)
        end
    end
    con:puts(#found == 0 and "held" or table.concat(found, "\n"))
end
