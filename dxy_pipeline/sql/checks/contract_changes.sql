-- Objects of the contract that are not as deployed; keys before what refers to them. Owner and grants of what is gone
-- altogether are no changes of their own.
SELECT d.object, d.definition AS deployed, c.definition AS found, d.is_own, d.remedy
FROM dxy.deployed_object AS d LEFT JOIN ({contract_objects}) AS c ON c.object = d.object
WHERE c.definition IS DISTINCT FROM d.definition
    AND NOT (c.object IS NULL AND split_part(d.object, ' ', 1) IN ('owner', 'grants', 'row-security'))
ORDER BY d.is_own DESC, starts_with(d.definition, 'FOREIGN KEY'), d.object
